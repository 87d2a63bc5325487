"""From a file and an environment to a `Config`, or to a sentence about what is wrong.

The file is LiteLLM's proxy configuration with our sections beside it. Nothing secret is ever part
of a message: values are quoted only where they are numbers or switches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from embedpool_shared.config.aliases import settled_aliases
from embedpool_shared.config.environment import (
    CONFIG_NAME,
    MASTER_KEY,
    REFERENCE,
    SECRET,
    SHORT_NAMES,
    References,
    misspelt_names,
    overlaid,
)
from embedpool_shared.config.exposure import has_weak_master_key, has_weak_secret
from embedpool_shared.config.notices import (
    NOT_USED,
    REASONS,
    Notice,
    ignored,
    known_names,
    suggestion,
    unused_in_sections,
    warning,
)
from embedpool_shared.config.problems import problems
from embedpool_shared.config.settings import Config
from embedpool_shared.config.yaml_file import read_yaml
from embedpool_shared.errors import ConfigInvalid

LITELLM_SECTIONS: Final = frozenset(
    {
        "model_list",
        "litellm_settings",
        "router_settings",
        "general_settings",
        "environment_variables",
    }
)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and what is to be said about it."""

    config: Config
    notices: tuple[Notice, ...] = ()
    path: str | None = None
    """The file it was read from; None without one."""


def load_config(path: str | Path | None, environ: Mapping[str, str]) -> LoadedConfig:
    """Read the file at `path`, else at EMBEDPOOL_CONFIG, else none; raises `ConfigInvalid`."""
    file = str(path or environ.get(CONFIG_NAME) or "") or None
    try:
        config, notices = _configured(file, environ)
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{file or 'environment'}: {error.message}") from None
    return LoadedConfig(config, tuple(notices), file)


def _configured(file: str | None, environ: Mapping[str, str]) -> tuple[Config, list[Notice]]:
    tree, notices = read_yaml(file) if file else ({}, [])
    references = References({**environ, **_own_environment(tree)})
    tree = references.resolved(tree)
    _require_master_key(references, environ)
    notices += [_unset(path, name) for path, name in references.unset]
    tree, unknown = _known_sections(overlaid(tree, environ))
    config = _validated(tree)
    settled_aliases(config.router_settings.aliases(), (e.model_name for e in config.model_list))
    notices += [*unknown, *unused_in_sections(config), *misspelt_names(environ), *_remarks(config)]
    return config, notices


def _own_environment(tree: Mapping[str, Any]) -> dict[str, str]:
    own = tree.get("environment_variables")
    if not isinstance(own, Mapping):
        return {}
    return {
        str(name): str(value)
        for name, value in own.items()
        if value is not None and not str(value).startswith(REFERENCE)
    }


def _require_master_key(references: References, environ: Mapping[str, str]) -> None:
    if any(environ.get(name) for name, path in SHORT_NAMES.items() if path == MASTER_KEY):
        return
    for path, name in references.unset:
        if path == ".".join(MASTER_KEY):
            raise ConfigInvalid(
                f"{path} names the environment variable {name}, which is not set: without it "
                "everybody could call; set it, or remove master_key for open mode on loopback"
            )


def _unset(path: str, name: str) -> Notice:
    return warning(path, f"the environment variable {name} is not set, so this counts as missing")


def _known_sections(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Notice]]:
    known = known_names(Config)
    notices = []
    for name in tree:
        if name in known:
            continue
        if near := suggestion(name, known - LITELLM_SECTIONS):
            raise ConfigInvalid(f"{name}: no such section{near}")
        reason = REASONS.get(name) or NOT_USED + suggestion(name, LITELLM_SECTIONS)
        notices.append(ignored(name, reason))
    return {name: part for name, part in tree.items() if name in known}, notices


def _validated(tree: Mapping[str, Any]) -> Config:
    key = tree.get("general_settings")
    if isinstance(key, Mapping) and not str(key.get("master_key", "unset")).strip():
        raise ConfigInvalid("general_settings.master_key is empty: set it, or remove the line")
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigInvalid("\n  ".join(problems(error))) from None


def _remarks(config: Config) -> list[Notice]:
    remarks: list[Notice] = []
    if has_weak_master_key(config):
        remarks.append(
            warning(
                ".".join(MASTER_KEY),
                "a well-known or very short key: fine on loopback, refused elsewhere",
            )
        )
    if has_weak_secret(config):
        remarks.append(
            warning(
                ".".join(SECRET),
                "a well-known one, one of few different letters, or the master key once more: "
                "make a random one (openssl rand -hex 32)",
            )
        )
    return remarks
