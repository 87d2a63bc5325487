"""LiteLLM's named credentials, put where models name them. Pure.

A model says `litellm_credential_name`; `credential_list` holds the key, the address and the like
under that name. What the model says itself wins, as in LiteLLM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from embedpool_shared.config.notices import Notice, ignored, warning

SECTION: Final = "credential_list"
NAME: Final = "litellm_credential_name"
NOBODYS: Final[Mapping[str, Any]] = {"api_key": ""}
"""Stands for a credential that is not listed: it was asked for, so no other may take its place."""

Credentials = Mapping[str, Mapping[str, Any]]


def with_credentials(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Notice]]:
    """Fill the section's credentials into the models that name them; it is used up by that."""
    filled = {name: part for name, part in tree.items() if name != SECTION}
    section, models = tree.get(SECTION), tree.get("model_list")
    credentials = dict(_listed(section))
    if isinstance(models, list):
        filled["model_list"] = [_filled(entry, credentials) for entry in models]
    names = [_named_by(entry) for entry in models] if isinstance(models, list) else []
    return filled, [*_unusable(section), *_unmatched(names, credentials)]


def _listed(section: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in section if isinstance(section, list) else ():
        if _is_credential(one):
            yield one["credential_name"], one["credential_values"]


def _is_credential(one: object) -> bool:
    return (
        isinstance(one, Mapping)
        and isinstance(one.get("credential_name"), str)
        and isinstance(one.get("credential_values"), Mapping)
    )


def _named_by(entry: object) -> str | None:
    params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
    name = params.get(NAME) if isinstance(params, Mapping) else None
    return name if isinstance(name, str) else None


def _filled(entry: Any, credentials: Credentials) -> Any:
    name = _named_by(entry)
    if name is None:
        return entry
    own = {setting: value for setting, value in entry["litellm_params"].items() if setting != NAME}
    return {**entry, "litellm_params": {**credentials.get(name, NOBODYS), **own}}


def _unusable(section: object) -> Iterator[Notice]:
    if section is not None and not isinstance(section, list):
        yield warning(SECTION, "not used: it should be a list")
    for position, one in enumerate(section if isinstance(section, list) else ()):
        if not _is_credential(one):
            reason = "not used: it should hold credential_name and credential_values"
            yield warning(f"{SECTION}[{position}]", reason)


def _unmatched(names: list[str | None], credentials: Credentials) -> Iterator[Notice]:
    for position, name in enumerate(names):
        if name is not None and name not in credentials:
            path = f"model_list[{position}].litellm_params.{NAME}"
            yield warning(path, f"{SECTION} holds no such credential, so the key counts as missing")
    for name in credentials:
        if name not in names:
            yield ignored(f"{SECTION} ({name})", "no model of this file names it")
