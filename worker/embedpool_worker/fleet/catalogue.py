"""The fleet as the api sees it: one card per model, and every name that leads to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import structs

from embedpool_shared.catalog import ANY_DIMENSIONS, Catalog, KeyCard, ModelCard, same_name
from embedpool_shared.config.aliases import settled_aliases
from embedpool_shared.config.notices import Notice, ignored, warning
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.fleet.groups import LOCAL_ALIASES, LOCAL_MODEL
from embedpool_worker.patterns import Pattern
from embedpool_worker.providers.cap_words import CapKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedpool_shared.config.file import LoadedConfig
    from embedpool_worker.fleet.assembly import Served
    from embedpool_worker.fleet.groups import Fleet, Group
    from embedpool_worker.learned_caps import LearnedCaps
    from embedpool_worker.providers.limits import Dimensions

T = TypeVar("T")

FIELD_OF: Final[Mapping[CapKind, str]] = {
    CapKind.ITEMS: "max_items_per_call",
    CapKind.CALL_TOKENS: "max_tokens_per_call",
    CapKind.CALL_BYTES: "max_bytes_per_call",
}
"""Which setting of `model_info`, and which field of a card, a cap is."""


def catalogue(loaded: LoadedConfig, fleet: Fleet) -> Catalog:
    """Describe what callers can ask for; raises `ConfigInvalid` on a circle of aliases."""
    models = {name: _card(name, group) for name, group in fleet.groups.items()}
    wildcards = tuple(
        _card(text, group, is_wildcard=True) for text, group in fleet.wildcards.items()
    )
    served = {**fleet.groups, **fleet.wildcards}.values()
    providers = dict.fromkeys(one.deployment.provider for group in served for one in group)
    keys = {card.id: card for group in served for one in group for card in _keys(one)}
    return Catalog(
        models=models,
        aliases={
            alias: name
            for alias, name in _aliases(loaded, fleet).items()
            if _is_served(name, fleet)
        },
        wildcards=wildcards,
        providers=tuple(providers),
        keys=tuple(keys.values()),
    )


def _keys(served: Served) -> list[KeyCard]:
    """List the keys whose state workers share; where none is needed the deployment has one."""
    deployment = served.deployment
    if not deployment.is_callable or deployment.adapter is Adapter.LOCAL:
        return []
    return [
        KeyCard(
            id=key_id,
            provider=deployment.provider,
            deployment=deployment.id,
            rpm=deployment.rpm,
            tpm=deployment.tpm,
        )
        for key_id in [key.id for key in deployment.keys] or [deployment.id]
    ]


def unserved_names(loaded: LoadedConfig, fleet: Fleet) -> tuple[Notice, ...]:
    """List the names in the configuration that lead to no model."""
    aliases = _aliases(loaded, fleet)
    notices = [
        ignored(f"router_settings.model_group_alias.{alias}", f"nobody serves {name}")
        for alias, name in aliases.items()
        if not _is_served(name, fleet)
    ]
    default = loaded.config.llm.default_embedding_model
    base = default.rpartition("@")[0] or default if default else ""
    candidates = {aliases.get(same_name(name), name) for name in (default or "", base)}
    if default and not any(_is_served(name, fleet) for name in candidates):
        notices.append(warning("llm.default_embedding_model", f"nobody serves {default}"))
    return tuple(notices)


def _aliases(loaded: LoadedConfig, fleet: Fleet) -> dict[str, str]:
    listed = [entry.model_name for entry in loaded.config.model_list]
    names = [*listed, *fleet.groups]
    own = {same_name(name) for name in listed}
    folded = {same_name(alias): name for alias, name in fleet.synonyms.items()}
    if loaded.path is None and LOCAL_MODEL in fleet.groups:
        folded |= dict.fromkeys(LOCAL_ALIASES, LOCAL_MODEL)
    aliases = {alias: name for alias, name in folded.items() if alias not in own}
    written = loaded.config.router_settings.aliases()
    settled = settled_aliases(written, names)
    return aliases | {a: aliases.get(same_name(name), name) for a, name in settled.items()}


def _is_served(name: str, fleet: Fleet) -> bool:
    """Tell whether a name, or what is before the `@` of `model@provider`, leads anywhere."""
    return any(
        candidate in fleet.groups
        or any(Pattern(text).captured(candidate) for text in fleet.wildcards)
        for candidate in {name, name.rpartition("@")[0] or name}
    )


def _card(name: str, group: Group, *, is_wildcard: bool = False) -> ModelCard:
    first = group[0].deployment
    sizes = _one([one.space.dimensions for one in group if one.space.dimensions])
    return ModelCard(
        name=name,
        providers=tuple(dict.fromkeys(one.deployment.provider for one in group)),
        dimensions=None if is_wildcard else sizes,
        dimensions_allowed=_common_dimensions([one.dimensions_allowed for one in group]),
        max_item_tokens=min(one.max_item_tokens for one in group),
        max_request_tokens=min(one.max_request_tokens for one in group),
        encoding=_one([one.deployment.encoding for one in group]) or "",
        takes_token_ids=all(one.takes_token_ids for one in group),
        token_encoding=group[0].token_encoding,
        params=_common([one.params for one in group]),
        merges_body=all(one.deployment.merges_body for one in group),
        price_per_token_pico_usd=max(one.price_per_token_pico_usd for one in group),
        has_credential=any(one.deployment.is_callable for one in group),
        own_key_providers=_own_key_providers(group),
        is_wildcard=is_wildcard or bool(first.pattern),
        max_items_per_call=min(one.deployment.caps.max_items for one in group),
        max_tokens_per_call=_least(one.deployment.caps.max_call_tokens for one in group),
        max_bytes_per_call=_least(one.deployment.caps.max_call_bytes for one in group),
    )


def _own_key_providers(group: Group) -> tuple[str, ...]:
    """List the providers that a caller's own key may go to: each by its first deployment."""
    first: dict[str, Deployment] = {}
    for one in group:
        first.setdefault(one.deployment.provider, one.deployment)
    return tuple(name for name, deployment in first.items() if deployment.takes_own_keys)


def with_learned_caps(catalog: Catalog, fleet: Fleet, learned: LearnedCaps) -> Catalog:
    """Say in each card what refusals taught: the same on every worker that knows the same."""
    return structs.replace(
        catalog,
        models={
            name: _taught(card, fleet.groups.get(name, ()), learned)
            for name, card in catalog.models.items()
        },
        wildcards=tuple(
            _taught(card, fleet.wildcards.get(card.name, ()), learned) for card in catalog.wildcards
        ),
    )


def _taught(card: ModelCard, group: Group, learned: LearnedCaps) -> ModelCard:
    taught: dict[str, int] = {}
    for one in group:
        for kind, number in learned.numbers_of(one.deployment).items():
            field = FIELD_OF[kind]
            taught[field] = min(number, taught.get(field, number))
    bounded: dict[str, Any] = {
        field: _least([getattr(card, field), number]) for field, number in taught.items()
    }
    return structs.replace(card, **bounded, learned_caps=taught) if taught else card


def _least(caps: Iterable[int | None]) -> int | None:
    return min((cap for cap in caps if cap is not None), default=None)


def _one(values: list[T]) -> T | None:
    """The value all agree on, None where they do not."""
    return values[0] if values and all(value == values[0] for value in values) else None


def _common(columns: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    first, *others = columns
    return tuple(value for value in first if all(value in other for other in others))


def _common_dimensions(allowed: list[Dimensions]) -> Dimensions:
    listed = [sizes for sizes in allowed if not isinstance(sizes, str)]
    return _common(listed) if listed else ANY_DIMENSIONS
