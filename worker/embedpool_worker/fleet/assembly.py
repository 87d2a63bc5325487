"""One deployment from what the operator, the price map and the limits say about it. Pure.

The operator's word counts most, then the provider's published limits, then LiteLLM's map.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from embedpool_shared.config.litellm_sections import LitellmParams, ModelInfo
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment, ProviderKey
from embedpool_worker.fleet.vector_spaces import VectorSpace
from embedpool_worker.providers import limits, local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedpool_worker.fleet.model_names import KnownModels, ModelPlace
    from embedpool_worker.providers.limits import Dimensions, Traits
    from embedpool_worker.providers.price_map import PriceEntry

PICO: Final = 10**12
AMBIENT: Final = frozenset({"bedrock", "oci", "sagemaker", "vertex_ai", "watsonx"})
"""Their SDKs find credentials by themselves (roles, profiles, files); no api key is involved."""
KEYLESS: Final = frozenset(
    {"hosted_vllm", "infinity", "lm_studio", "local", "ollama", "openai_like", "tei"}
)
"""Servers of one's own, which often want no key."""
COMPATIBLE: Final = frozenset(
    {"custom_openai", "docker_model_runner", "litellm_proxy", "llamafile", "openai_like"}
)
"""LiteLLM's names for servers that speak OpenAI's format."""
TOKEN_OPTIONS: Final = frozenset({"azure_ad_token", "client_secret", "tenant_id"})
"""With one of these Azure is signed in to by token, which the LiteLLM adapter does."""
OPENAI_ITEM_TOKENS: Final = 8_192
MAX_REQUEST_ITEMS: Final = 2_048
MAX_ID_CHARS: Final = 96
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9._:/@*+-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A deployment and what the catalogue says about requests to it."""

    deployment: Deployment
    space: VectorSpace
    dimensions_allowed: Dimensions
    max_item_tokens: int
    max_request_tokens: int
    takes_token_ids: bool
    token_encoding: str
    params: tuple[str, ...]
    price_per_token_pico_usd: int
    missing: str = ""  # what keeps it from being called, "" for nothing


@dataclass(frozen=True, slots=True)
class Access:
    """Where a deployment is, and with which credentials."""

    api_base: str | None
    secrets: tuple[str, ...]
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be deployed."""

    id: str  # unique
    place: ModelPlace
    params: LitellmParams
    about: ModelInfo
    pattern: str = ""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known about an order."""

    access: Access
    traits: Traits
    row: limits.Limits
    entry: PriceEntry | None
    native_dimensions: int | None


def assembled(order: Order, known: KnownModels, environ: Mapping[str, str]) -> Served:
    """Build the deployment that `order` describes."""
    facts = _facts(order, known, environ)
    row, about = facts.row, order.about
    item_tokens = _item_tokens(about, facts.entry, row)
    return Served(
        deployment=_deployment(order, facts, environ),
        space=_space(order, facts.native_dimensions, row),
        dimensions_allowed=_with_own(
            row.dimensions, facts.native_dimensions, order.params.dimensions
        ),
        max_item_tokens=item_tokens,
        max_request_tokens=_request_tokens(row, item_tokens),
        takes_token_ids=facts.traits.takes_token_ids or about.native_token_ids,
        token_encoding=about.token_encoding or limits.CL100K,
        params=facts.traits.params,
        price_per_token_pico_usd=_price(order.params, about, facts.entry),
        missing=facts.access.missing,
    )


def _facts(order: Order, known: KnownModels, environ: Mapping[str, str]) -> _Facts:
    provider, about = order.place.provider, order.about
    access = access_to(provider, order.params, limits.traits_for(provider), environ)
    entry = known.entry(order.place, about.base_model)
    return _Facts(
        access=access,
        traits=limits.traits_for(provider, api_base=access.api_base),
        row=limits.limits_for(provider, _model_for_limits(order)),
        entry=entry,
        native_dimensions=_native_dimensions(order.place, about, entry),
    )


def _deployment(order: Order, facts: _Facts, environ: Mapping[str, str]) -> Deployment:
    place, params, access = order.place, order.params, facts.access
    return Deployment(
        id=order.id,
        provider=place.provider,
        upstream_model="" if place.is_pattern else place.model,
        adapter=_adapter(place.provider, params, facts.traits, access),
        caps=_caps(order, facts.row),
        keys=tuple(
            ProviderKey(f"{order.id}#{n}", secret) for n, secret in enumerate(access.secrets, 1)
        ),
        api_base=access.api_base,
        api_version=params.api_version or environ.get(f"{place.provider.upper()}_API_VERSION"),
        timeout_s=params.timeout or order.timeout_s,
        options=params.options(),
        native_dimensions=facts.native_dimensions,
        forwards_dimensions=bool(facts.row.dimensions or params.dimensions),
        encoding=facts.row.encoding,
        merges_body=facts.traits.merges_body or _is_compatible(place.provider, params),
        default_dimensions=params.dimensions,
        rpm=params.rpm,
        tpm=params.tpm,
        is_callable=not access.missing,
        takes_own_keys=_takes_own_keys(place.provider, params, facts),
        pattern=order.pattern if place.is_pattern else "",
        target=place.model if place.is_pattern else "",
    )


def printable_id(name: str) -> str:
    """Make `name` fit for a metric label."""
    return _NOT_IN_IDS.sub("_", name)[:MAX_ID_CHARS]


def access_to(
    provider: str, params: LitellmParams, traits: Traits, environ: Mapping[str, str]
) -> Access:
    """Find address and credentials, and say what is missing."""
    base_name = f"{provider.upper()}_API_BASE"
    from_environ = environ.get(base_name) or (
        environ.get("OPENAI_BASE_URL") if provider == "openai" else None
    )
    api_base = params.api_base or from_environ or None
    secrets = params.secrets() or _from_environ(provider, params, traits, environ)
    missing = ""
    if traits.adapter is Adapter.OPENAI_WIRE and not (api_base or traits.api_base):
        missing = f"no address: set litellm_params.api_base or {base_name}"
    elif not secrets and _wants_key(provider, params, traits):
        hint = f" or {traits.env_keys[0]}" if traits.env_keys and not params.names_key else ""
        missing = f"no key: set litellm_params.api_key{hint}"
    return Access(api_base, secrets, missing)


def _from_environ(
    provider: str, params: LitellmParams, traits: Traits, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """The provider's key in the environment, unless the file says which one to use.

    It goes to the provider's own address only: never to another server under its name.
    """
    if params.names_key or provider in AMBIENT or _is_elsewhere(params, traits):
        return ()
    found = [environ[name] for name in traits.env_keys if environ.get(name)]
    return tuple(found[:1])


def _is_elsewhere(params: LitellmParams, traits: Traits) -> bool:
    if not params.api_base or not traits.api_base:
        return False
    return urlsplit(params.api_base).hostname != urlsplit(traits.api_base).hostname


def _wants_key(provider: str, params: LitellmParams, traits: Traits) -> bool:
    if params.names_key:
        return True
    if provider in AMBIENT | KEYLESS or not traits.env_keys:
        return False
    return not _is_elsewhere(params, traits) and not TOKEN_OPTIONS & params.options().keys()


def _takes_own_keys(provider: str, params: LitellmParams, facts: _Facts) -> bool:
    """Whether a caller's own key is of any use there, and goes to nobody it was not meant for."""
    traits, access = facts.traits, facts.access
    if provider in AMBIENT or not traits.env_keys:
        return False
    has_address = bool(access.api_base or traits.api_base)
    if traits.adapter is Adapter.OPENAI_WIRE and not has_address:
        return False
    return access.api_base is None or params.passthrough


def _is_compatible(provider: str, params: LitellmParams) -> bool:
    return provider in COMPATIBLE and params.api_base is not None


def _adapter(provider: str, params: LitellmParams, traits: Traits, access: Access) -> Adapter:
    if _is_compatible(provider, params):
        return Adapter.OPENAI_WIRE
    signs_in = bool(TOKEN_OPTIONS & params.options().keys())
    if traits.adapter is Adapter.OPENAI_WIRE and signs_in and not access.secrets:
        return Adapter.LITELLM
    return traits.adapter


def _model_for_limits(order: Order) -> str:
    return (order.about.base_model or order.place.model).removeprefix(f"{order.place.provider}/")


def _caps(order: Order, row: limits.Limits) -> Caps:
    about, said = order.about, order.about.max_tokens_per_call
    published = limits.caps_for(
        order.place.provider, _model_for_limits(order), api_version=order.params.api_version
    )
    return Caps(
        max_items=about.max_items_per_call or published.max_items,
        max_item_tokens=about.max_tokens_per_item
        or about.max_input_tokens
        or published.max_item_tokens,
        max_call_tokens=limits.packed_tokens(said, row) if said else published.max_call_tokens,
        max_call_bytes=about.max_bytes_per_call or published.max_call_bytes,
    )


def _native_dimensions(place: ModelPlace, about: ModelInfo, entry: PriceEntry | None) -> int | None:
    if about.output_dimensions:
        return about.output_dimensions
    if place.provider == "local":
        return local.NATIVE_DIMENSIONS
    return entry.output_vector_size if entry else None


def _with_own(allowed: Dimensions, native: int | None, asked: int | None) -> Dimensions:
    """Where the operator fixed a size, the model's own one can still be asked for."""
    if isinstance(allowed, str) or not (asked and native and allowed):
        return allowed
    return tuple(dict.fromkeys((*allowed, native)))


def _item_tokens(about: ModelInfo, entry: PriceEntry | None, row: limits.Limits) -> int:
    said = about.max_tokens_per_item or about.max_input_tokens
    if said:
        return said
    if row.encoding:  # packed to one less than OpenAI takes
        return OPENAI_ITEM_TOKENS
    return (entry.max_input_tokens if entry else None) or row.item_tokens


def _request_tokens(row: limits.Limits, item_tokens: int) -> int:
    """OpenAI bounds a request's sum; a larger one to anybody else is simply split."""
    if row.encoding and row.call_tokens:
        return row.call_tokens
    return MAX_REQUEST_ITEMS * item_tokens


def _price(params: LitellmParams, about: ModelInfo, entry: PriceEntry | None) -> int:
    for said in (about.input_cost_per_token, params.input_cost_per_token):
        if said is not None:
            return int(Decimal(str(said)) * PICO)
    return entry.input_cost_per_token_pico_usd if entry else 0


def _space(order: Order, native: int | None, row: limits.Limits) -> VectorSpace:
    base_model = order.about.base_model
    return VectorSpace(
        deployment=order.id,
        dimensions=order.params.dimensions or native,
        model=base_model or order.place.model,
        is_proven=base_model is not None
        or (order.place.provider == "openai" and row.encoding != ""),
    )
