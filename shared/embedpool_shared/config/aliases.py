"""Which model every alias finally means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from embedpool_shared.catalog import same_name
from embedpool_shared.errors import ConfigInvalid


def settled_aliases(aliases: Mapping[str, str], models: Iterable[str]) -> dict[str, str]:
    """Follow every alias to its end: folded alias → the model's own spelling, or an unlisted name.

    Names are compared ignoring case, `-` and `_`. A model's own name is never an alias's way on.
    Raises `ConfigInvalid` on a cycle, and on two aliases that are the same name.
    """
    names = tuple(models)
    own_name = {same_name(name): name for name in names} | {name: name for name in names}
    targets = _folded(aliases)
    return {alias: _end_of(alias, targets, own_name, aliases) for alias in targets}


def _folded(aliases: Mapping[str, str]) -> dict[str, str]:
    targets: dict[str, str] = {}
    for alias, target in aliases.items():
        folded = same_name(alias)
        if targets.setdefault(folded, target) != target:
            raise ConfigInvalid(
                f"router_settings.model_group_alias.{alias}: case, - and _ do not tell names "
                "apart, and another alias of that name means another model"
            )
    return targets


def _end_of(
    alias: str, targets: Mapping[str, str], own_name: Mapping[str, str], written: Iterable[str]
) -> str:
    seen = [alias]
    while True:
        target = targets[seen[-1]]
        folded = same_name(target)
        if target in own_name or folded in own_name:
            return own_name.get(target) or own_name[folded]
        if folded not in targets:
            return target
        if folded in seen:
            spelling = {same_name(name): name for name in written}
            circle = [*seen[seen.index(folded) :], folded]
            names = " → ".join(spelling[name] for name in circle)
            raise ConfigInvalid(f"router_settings.model_group_alias: a circle, {names}")
        seen.append(folded)
