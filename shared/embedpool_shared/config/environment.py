"""Which environment names fill which settings, and what `os.environ/NAME` stands for. Pure.

The rule: `EMBEDPOOL_` + section + setting, upper case (`EMBEDPOOL_POOL_LINGER_MS`), wins over the
file. Names that belong to others (`REDIS_URL`, `LITELLM_MASTER_KEY`) fill only what neither sets.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from embedpool_shared.config.notices import Notice, suggestion, warning
from embedpool_shared.config.settings import Config, Section
from embedpool_shared.errors import ConfigInvalid

CONFIG_NAME: Final = "EMBEDPOOL_CONFIG"
PREFIX: Final = "EMBEDPOOL_"
REFERENCE: Final = "os.environ/"
MAX_DEPTH: Final = 32

Path = tuple[str, ...]

MASTER_KEY: Final[Path] = ("general_settings", "master_key")
SECRET: Final[Path] = ("auth", "secret")
SECRET_NAME: Final = "EMBEDPOOL_SECRET"  # noqa: S105 (where it is, not what)
FILES_URL_NAME: Final = "EMBEDPOOL_FILES_URL"
SHORT_NAMES: Final[Mapping[str, Path]] = {
    "EMBEDPOOL_MASTER_KEY": MASTER_KEY,
    SECRET_NAME: SECRET,
}
"""Ours, beside the rule; they win over the file as well."""
BORROWED_NAMES: Final[Mapping[str, Path]] = {
    "LITELLM_MASTER_KEY": MASTER_KEY,
    "REDIS_URL": ("redis", "url"),
}
"""Names other software reads too."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of ours, as documentation and `check` show it."""

    path: Path
    field: FieldInfo
    is_secret: bool
    is_list: bool

    @property
    def name(self) -> str:
        """As it is written in messages: `pool.linger_ms`."""
        return ".".join(self.path)

    @property
    def env_name(self) -> str:
        """The environment name that sets it."""
        return PREFIX + "_".join(self.path).upper()

    def value_in(self, config: Config) -> Any:
        """Read the setting's value."""
        value: Any = config
        for name in self.path:
            value = getattr(value, name)
        return value


def our_settings() -> tuple[Setting, ...]:
    """Every setting of our own sections, in the order of the file."""
    return tuple(_settings())


def _settings() -> Iterator[Setting]:
    for section, field in Config.model_fields.items():
        if section == "unlisted_providers":
            yield _setting((section,), field)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for name, inner in field.annotation.model_fields.items():
                yield _setting((section, name), inner)


def _setting(path: Path, field: FieldInfo) -> Setting:
    kinds = set(_kinds(field.annotation))
    return Setting(path, field, is_secret=SecretStr in kinds, is_list=tuple in kinds)


def _kinds(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        for inner in get_args(annotation):
            yield from _kinds(inner)
    elif origin is tuple:
        yield tuple
        yield from _kinds(get_args(annotation)[0])
    elif origin is not None and hasattr(annotation, "__metadata__"):
        yield from _kinds(get_args(annotation)[0])
    else:
        yield annotation


def overlaid(tree: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Lay the environment's settings over the file's; an empty variable counts as unset."""
    laid = {name: dict(part) if isinstance(part, Mapping) else part for name, part in tree.items()}
    for name, path in BORROWED_NAMES.items():
        if environ.get(name) and not _has(laid, path):
            _put(laid, path, environ[name])
    for setting in our_settings():
        value = environ.get(setting.env_name)
        if value:
            _put(laid, setting.path, _split(value) if setting.is_list else value)
    for name, path in SHORT_NAMES.items():
        if environ.get(name):
            _put(laid, path, environ[name])
    return laid


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _has(tree: Mapping[str, Any], path: Path) -> bool:
    section = tree.get(path[0])
    return isinstance(section, Mapping) and section.get(path[-1]) is not None


def _put(tree: dict[str, Any], path: Path, value: object) -> None:
    if len(path) == 1:
        tree[path[0]] = value
    elif isinstance(tree.setdefault(path[0], {}), dict):
        tree[path[0]][path[1]] = value


def misspelt_names(environ: Mapping[str, str]) -> Iterator[Notice]:
    """Warn of environment names that are nearly ours."""
    known = {setting.env_name for setting in our_settings()} | {*SHORT_NAMES, CONFIG_NAME}
    sections = tuple(f"{PREFIX}{path[0].upper()}_" for path in (s.path for s in our_settings()))
    for name, value in environ.items():
        # Kubernetes invents EMBEDPOOL_REDIS_PORT=tcp://… for a service called embedpool-redis.
        if name in known or not name.startswith(sections) or "://" in value:
            continue
        if near := suggestion(name, known):
            yield warning(name, f"no setting has this environment name{near}")


class References:
    """Replaces `os.environ/NAME` and remembers which names were not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.unset: list[tuple[str, str]] = []

    def resolved(self, node: Any, path: str = "", depth: int = 0) -> Any:
        """Copy `node` with every reference replaced; a null, or a name not set, is left out.

        A provider key whose name is not set becomes the empty text: it was asked for, so nothing
        else from the environment may stand in for it.
        """
        if depth > MAX_DEPTH:
            raise ConfigInvalid(f"{path[:80]}…: nested too deeply")
        if isinstance(node, Mapping):
            return self._mapping(node, path, depth)
        if isinstance(node, list):
            inner = (self.resolved(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(node))
            return [value for value in inner if value is not None]
        if isinstance(node, str) and node.startswith(REFERENCE):
            return self._looked_up(node.removeprefix(REFERENCE), path)
        return node

    def _mapping(self, node: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for name, value in node.items():
            inner = f"{path}.{name}" if path else str(name)
            replaced = self.resolved(value, inner, depth + 1)
            if replaced is not None:
                copy[str(name)] = replaced
            elif value is not None and inner.endswith(".litellm_params.api_key"):
                copy[str(name)] = ""
        return copy

    def _looked_up(self, name: str, path: str) -> str | None:
        value = self._environ.get(name)
        if not value:
            self.unset.append((path, name))
        return value or None
