"""Which model a caller's name means. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from embedpool_shared.catalog import ModelCard, same_name
from embedpool_shared.errors import BadRequest, ModelNotAllowed, ModelNotFound

if TYPE_CHECKING:
    from embedpool_shared.catalog import Catalog


class Resolved(NamedTuple):
    """The model meant, and where its work waits."""

    card: ModelCard
    lane: str  # the catalogue's name: of a wildcard, the pattern
    model: str  # the catalogue's name, or what a wildcard matched
    provider: str = ""  # the part behind `model@`, as the catalogue spells it; "" for any


def resolve(catalog: Catalog, requested: str) -> Resolved:
    """Find the model that `requested` names: itself, by alias, `model@provider` or wildcard.

    An alias may stand for `model@provider`; a provider the caller names wins over that one.
    Raises `BadRequest` for what must never be called, and `ModelNotFound`.
    """
    card = catalog.models.get(requested)
    if card is not None:
        return Resolved(card, card.name, card.name)
    refuse_impossible(requested)
    name = _unaliased(catalog, requested)
    found = _at_provider(catalog, name) or _served(catalog, name)
    if found is None:
        raise _not_found(catalog, requested)
    refuse_impossible(found.model)
    return found


def refuse_impossible(name: str) -> None:
    """Raise `BadRequest` for a name that no catalogue can make callable."""
    if "://" in name:
        raise BadRequest("`model` must be a name, not an address", param="model")
    if name.startswith("os.environ/"):
        raise BadRequest("`model` is literal: os.environ/ is not read here", param="model")
    if name.lower().startswith("anthropic/"):
        raise BadRequest("anthropic has no embedding models", param="model")


def refuse_stranger(resolved: Resolved) -> None:
    """Raise `ModelNotAllowed` where a caller's own provider key must not go.

    It goes to the provider asked for, else to that of the first deployment, and nowhere else.
    """
    provider = resolved.provider or resolved.card.providers[0]
    if provider not in resolved.card.own_key_providers:
        raise ModelNotAllowed(
            f"[{provider}] The model `{resolved.model}` is not called with keys of callers' own",
            param="model",
        )


def _unaliased(catalog: Catalog, name: str) -> str:
    return name if name in catalog.models else catalog.aliases.get(same_name(name), name)


def _served(catalog: Catalog, name: str) -> Resolved | None:
    card = catalog.models.get(name)
    if card is not None:
        return Resolved(card, card.name, card.name)
    for wildcard in catalog.wildcards:
        if _pattern(wildcard.name).fullmatch(name):
            return Resolved(wildcard, wildcard.name, name)
    return None


def _at_provider(catalog: Catalog, name: str) -> Resolved | None:
    """Read `model@provider`; None when what is behind the last `@` names no provider of ours."""
    written, provider = _split(catalog, name)
    if not provider:
        return None
    base, _ = _split(catalog, _unaliased(catalog, written))
    found = _served(catalog, base)
    if found is None:
        raise _not_found(catalog, written)
    if provider not in found.card.providers:
        raise ModelNotFound(
            f"The model `{written}` is not served by '{provider}' but by "
            f"{_listed(found.card.providers)}.",
            param="model",
            code="model_not_found",
        )
    return found._replace(provider=provider)


def _split(catalog: Catalog, name: str) -> tuple[str, str]:
    """Take the provider off `model@provider`, as the catalogue spells it; `""` where none is."""
    if name in catalog.models:
        return name, ""
    base, _, wanted = name.rpartition("@")
    provider = _spelt(catalog.providers, wanted) if base else None
    return (base, provider) if provider else (name, "")


def _spelt(providers: tuple[str, ...], wanted: str) -> str | None:
    folded = same_name(wanted)
    return next((provider for provider in providers if same_name(provider) == folded), None)


def _not_found(catalog: Catalog, requested: str) -> ModelNotFound:
    message = f"The model `{requested}` does not exist or you do not have access to it."
    if "@" in requested:
        message += f" Behind `@` goes one of the providers {_listed(catalog.providers)}."
    return ModelNotFound(message, param="model", code="model_not_found")


def _listed(providers: tuple[str, ...]) -> str:
    return ", ".join(f"'{provider}'" for provider in providers) or "(none is configured)"


@lru_cache(maxsize=1_024)
def _pattern(wildcard: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, wildcard.split("*"))), re.DOTALL)
