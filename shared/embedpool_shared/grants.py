"""Which models a list of names and patterns grants. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY: Final = "*"
EVERYTHING: Final = frozenset({ANY, "all-proxy-models", "all-team-models"})
"""Entries that grant all there is; what a team or user may not use, their own lists withhold."""

Grant = frozenset[str]
"""Names and patterns, of which a model has to be one or fit one."""


def narrowing(lists: Iterable[Iterable[str]]) -> tuple[Grant, ...]:
    """Keep the lists that withhold anything; an empty one grants all."""
    grants = (frozenset(names) for names in lists)
    return tuple(grant for grant in grants if grant and grant.isdisjoint(EVERYTHING))


def is_granted(model: str, grant: Grant) -> bool:
    """Whether `grant` names `model` or has a pattern that it fits."""
    return model in grant or any(fits(model, entry) for entry in grant)


def fits(model: str, pattern: str) -> bool:
    """Whether `model` is `pattern` with each `*` filled in; in linear time, whatever the two."""
    if ANY not in pattern:
        return model == pattern
    first, *middle, last = pattern.split(ANY)
    end = len(model) - len(last)
    if not (len(first) <= end and model.startswith(first) and model.endswith(last)):
        return False
    at = len(first)
    for part in middle:
        found = model.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
