"""The example and the reference page say exactly what the settings are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from embedpool_shared.config.environment import Setting, our_settings
from embedpool_shared.config.file import load_config
from embedpool_shared.config.litellm_sections import (
    CacheParams,
    GeneralSettings,
    LitellmParams,
    LitellmSettings,
    ModelInfo,
    RouterSettings,
)
from embedpool_shared.config.settings import Config

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config.example.yaml"
REFERENCE = ROOT / "docs" / "configuration.md"
THEIRS: dict[str, type[BaseModel]] = {
    "litellm_params": LitellmParams,
    "model_info": ModelInfo,
    "litellm_settings": LitellmSettings,
    "litellm_settings.cache_params": CacheParams,
    "router_settings": RouterSettings,
    "general_settings": GeneralSettings,
}


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}) or field.is_required():
        return "required" if field.is_required() else "none"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _said(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def our_row(setting: Setting) -> str:
    field = setting.field
    return f"| `{setting.name}` | {_default(field)} | `{setting.env_name}` | {_said(field)} |"


def their_row(section: str, name: str, field: FieldInfo) -> str:
    return f"| `{section}.{name}` | {_default(field)} | {_said(field)} |"


def their_rows() -> list[str]:
    return [
        their_row(section, name, field)
        for section, model in THEIRS.items()
        for name, field in model.model_fields.items()
    ]


def _example() -> dict[str, Any]:
    tree = yaml.safe_load(EXAMPLE.read_text())
    assert isinstance(tree, dict)
    return tree


def _at(tree: dict[str, Any], path: tuple[str, ...]) -> Any:
    node: Any = tree
    for name in path:
        assert name in node, f"config.example.yaml lacks {'.'.join(path)}"
        node = node[name]
    return node


@pytest.mark.parametrize("setting", our_settings(), ids=lambda setting: setting.name)
def test_the_example_holds_every_setting_at_its_default(setting: Setting) -> None:
    default = setting.field.get_default()

    shown = _at(_example(), setting.path)

    assert (tuple(shown) if isinstance(shown, list) else shown) == default


@pytest.mark.parametrize(
    "name", [n for model in THEIRS.values() for n in model.model_fields if n != "model"]
)
def test_the_example_names_every_setting_of_litellm_that_is_used(name: str) -> None:
    assert f" {name}: " in EXAMPLE.read_text() or f" {name}:\n" in EXAMPLE.read_text()


def test_the_example_loads_without_a_remark_and_changes_nothing() -> None:
    loaded = load_config(EXAMPLE, {})

    assert loaded.notices == ()
    assert loaded.config.model_copy(update={"model_list": ()}) == Config()


def test_every_setting_says_what_it_is_for_in_a_sentence() -> None:
    fields = [setting.field for setting in our_settings()]
    fields += [field for model in THEIRS.values() for field in model.model_fields.values()]

    assert [f for f in fields if not _said(f).endswith(".")] == []


@pytest.mark.parametrize("row", [*map(our_row, our_settings()), *their_rows()])
def test_the_reference_page_has_the_row_of_every_setting(row: str) -> None:
    assert row in REFERENCE.read_text().splitlines()


def test_the_reference_page_has_no_row_of_a_setting_that_is_gone() -> None:
    rows = {*map(our_row, our_settings()), *their_rows()}

    written = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]

    assert [line for line in written if line not in rows and "EMBEDPOOL_CONFIG" not in line] == []
