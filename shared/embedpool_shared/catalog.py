"""What workers can do, as they publish it and the api reads it. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

ANY_DIMENSIONS: Final = "any"
"""`ModelCard.dimensions_allowed` of a model that takes every size up to its own."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One model that callers can name: what a request for it may look like."""

    name: str  # what callers ask for; the lane's name
    providers: tuple[str, ...]  # of its deployments, in order; the first one prefixes errors
    dimensions: int | None = None  # its own size, where known
    dimensions_allowed: tuple[int, ...] | str = ()  # further sizes, or ANY_DIMENSIONS
    max_item_tokens: int = 8_192
    max_request_tokens: int = 300_000
    encoding: str = ""  # tokenizer that counts exactly, "" where we have none
    takes_token_ids: bool = False  # raw ids go to the provider; else they are decoded
    token_encoding: str = "cl100k_base"  # … with this vocabulary  # noqa: S105
    params: tuple[str, ...] = ()  # provider parameters it knows (input_type, task_type, truncate …)
    merges_body: bool = False  # unknown parameters can be merged into the provider's JSON body
    price_per_token_pico_usd: int = 0
    has_credential: bool = True
    own_key_providers: tuple[str, ...] = ()  # where a caller's own provider key may go
    is_wildcard: bool = False  # `name` is a pattern; the name matched joins the merge key
    max_items_per_call: int | None = None  # what each of its deployments takes in one call
    max_tokens_per_call: int | None = None
    max_bytes_per_call: int | None = None
    learned_caps: dict[str, int] = {}  # those of the three that its providers' refusals taught


class KeyCard(msgspec.Struct, frozen=True, kw_only=True):
    """One provider key, by its id: what the configuration says of it, never its secret."""

    id: str  # a deployment's own where it needs none
    provider: str
    deployment: str
    rpm: int | None = None
    tpm: int | None = None


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """All models, and how callers' names lead to them."""

    models: dict[str, ModelCard] = {}
    aliases: dict[str, str] = {}  # normalised alias → name in `models`, already transitive
    wildcards: tuple[ModelCard, ...] = ()  # most specific first
    providers: tuple[str, ...] = ()  # every provider that `model@provider` may name
    keys: tuple[KeyCard, ...] = ()  # the provider keys; a deployment itself where it has none


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Catalog)


def encode_catalog(catalog: Catalog) -> bytes:
    """Write the catalogue as JSON."""
    return _encoder.encode(catalog)


def catalog_from(blob: bytes) -> Catalog:
    """Read a catalogue; fields this version does not know are ignored."""
    return _decoder.decode(blob)


def same_name(name: str) -> str:
    """Fold what MonoRelay's comparison ignores: case, `-` and `_`."""
    return name.lower().replace("-", "").replace("_", "")
