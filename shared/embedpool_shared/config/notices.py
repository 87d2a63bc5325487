"""What a configuration says that is not used, and why. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pydantic import AliasChoices, BaseModel

from embedpool_shared.config.litellm_sections import ModelEntry, Theirs, is_option

if TYPE_CHECKING:
    from embedpool_shared.config.settings import Config

NEAR: Final = 0.8
"""How alike two names must be for one to be taken for a misspelling of the other."""


class NoticeKind(StrEnum):
    """How much a notice matters."""

    IGNORED = "ignored"  # accepted, without effect
    WARNING = "warning"  # has an effect the operator may not want


@dataclass(frozen=True, slots=True)
class Notice:
    """One remark about the configuration; never holds a value that could be secret."""

    kind: NoticeKind
    path: str
    reason: str


FALLBACK_NAMES: Final = (
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
)
OTHER_VECTORS: Final = (
    "another model's vectors cannot stand in for this one's; a failing deployment is replaced by "
    "others of the same model_name"
)
NOT_USED: Final = "not used here"
REASONS: Final[Mapping[str, str]] = {
    "credential_list": "name the key in litellm_params.api_key",
    "include": "only this one file is read",
    "litellm_credential_name": "name the key in litellm_params.api_key",
    "max_parallel_requests": "calls in flight are bounded by pool.slots_per_key",
    "redis_host": "the queue's Redis is redis.url",
    "redis_password": "the queue's Redis is redis.url",
    "redis_port": "the queue's Redis is redis.url",
    "redis_url": "the queue's Redis is redis.url",
    "routing_strategy": "the key that is free first gets the call",
    "store_model_in_db": "models come from this file only",
    "database_url": "keys and spend live in Redis",
    "weight": "the key that is free first gets the call",
}


def ignored(path: str, reason: str) -> Notice:
    """Say that the setting at `path` has no effect."""
    return Notice(NoticeKind.IGNORED, path, reason)


def warning(path: str, reason: str) -> Notice:
    """Say what the setting at `path` leads to."""
    return Notice(NoticeKind.WARNING, path, reason)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Name the known setting that `name` misspells, as the end of a sentence; else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=NEAR)
    return f"; did you mean {near[0]}?" if near else ""


def known_names(model: type[BaseModel]) -> frozenset[str]:
    """Every name a section's settings may have in the file."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            names.update(str(choice) for choice in field.validation_alias.choices)
    return frozenset(names)


def unused_in_sections(config: Config) -> Iterator[Notice]:
    """List the settings of LiteLLM's sections that have no effect here."""
    for section in ("litellm_settings", "router_settings", "general_settings"):
        settings: Theirs = getattr(config, section)
        yield from _fallbacks(section, settings.model_extra or {})
        yield from _unused(section, settings)
    yield from _unused("litellm_settings.cache_params", config.litellm_settings.cache_params)


def unused_in_entry(position: int, entry: ModelEntry) -> Iterator[Notice]:
    """List the settings of one model_list entry that have no effect here."""
    path = f"model_list[{position}]"
    yield from _unused(f"{path}.litellm_params", entry.litellm_params)
    yield from _unused(f"{path}.model_info", entry.model_info)


def _unused(path: str, settings: Theirs) -> Iterator[Notice]:
    known = known_names(type(settings))
    for name in settings.model_extra or {}:
        if name not in FALLBACK_NAMES and not is_option(name):
            reason = REASONS.get(name) or NOT_USED + suggestion(name, known)
            yield ignored(f"{path}.{name}", reason)


def _fallbacks(section: str, settings: Mapping[str, object]) -> Iterator[Notice]:
    for name in FALLBACK_NAMES:
        if name in settings:
            routes = "".join(f" {route}" for route in _routes(settings[name]))
            yield ignored(f"{section}.{name}{routes}", OTHER_VECTORS)


def _routes(fallbacks: object) -> Iterator[str]:
    for route in fallbacks if isinstance(fallbacks, list) else []:
        if isinstance(route, Mapping):
            for model, others in route.items():
                names = others if isinstance(others, list) else [others]
                yield f"{model}→{','.join(n for n in names if isinstance(n, str))}"
        elif isinstance(route, str):
            yield route
