"""What is wrong with a configuration, one sentence for each setting. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from embedpool_shared.config.notices import known_names, suggestion
from embedpool_shared.config.settings import Config, Section


def problems(error: ValidationError) -> Iterator[str]:
    """Name each setting that is wrong, what is wrong, and what would be right."""
    seen = set()
    for detail in error.errors(include_url=False, include_context=True):
        line = f"{_written(detail['loc'])}: {_sentence(detail)}"
        if line not in seen:
            seen.add(line)
            yield line


def _sentence(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            section = _section(detail["loc"][:-1])
            return f"no such setting{suggestion(str(detail['loc'][-1]), known_names(section))}"
        case "missing":
            return "is required"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "should be a mapping of settings"
        case "tuple_type" | "list_type":
            return "should be a list"
        case "too_short" | "string_too_short":
            return f"should be at least {detail['ctx']['min_length']} characters long"
        case _:
            return _said(detail)


def _said(detail: ErrorDetails) -> str:
    said = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{said[:1].lower()}{said[1:]}{_shown(detail)}"


def _shown(detail: ErrorDetails) -> str:
    """The value, where it cannot be a secret: a number or a switch that is no text."""
    value = detail["input"]
    is_plain = isinstance(value, bool | int | float)
    is_number_text = isinstance(value, str) and len(value) < 12 and _is_number(value)
    if detail["type"] in {"value_error", "string_type"} or not (is_plain or is_number_text):
        return ""
    return f", not {value}"


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def _section(location: tuple[Any, ...]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for name in location:
        field = section.model_fields.get(str(name))
        if field is None or not isinstance(field.annotation, type):
            return section
        section = field.annotation if issubclass(field.annotation, Section) else section
    return section


def _written(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
