"""Fits a request to the model it names: what the provider will be asked for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from embedpool_shared.catalog import ANY_DIMENSIONS, ModelCard
from embedpool_shared.embedding import params
from embedpool_shared.embedding.lengths import (
    TokenCounter,
    counted_ids,
    counted_texts,
    doubtful_bytes,
    texts_of,
)
from embedpool_shared.errors import BadRequest
from embedpool_shared.jobs import Input, MergeKey

if TYPE_CHECKING:
    from embedpool_shared.embedding.models import Resolved
    from embedpool_shared.embedding.request import EmbeddingRequest


class Fitted(NamedTuple):
    """A request as its model takes it."""

    merge: MergeKey
    inputs: list[Input]  # all texts or all token arrays
    counts: list[int] | None  # tokens of each input, where each is known


def fit(
    request: EmbeddingRequest,
    resolved: Resolved,
    *,
    tokens: TokenCounter,
    drop_params: bool = False,
    scope: str = "",
    forwards_user: bool = False,
) -> Fitted:
    """Check `request` against its model's card; raises `BadRequest` naming model and field."""
    card = resolved.card
    wanted = _with_user(request, card) if forwards_user and request.user else request.params
    merge = MergeKey(
        resolved.model,
        _dimensions(request.dimensions, resolved),
        _params(wanted, resolved, drop_params=drop_params) if wanted else "",
        scope,
        resolved.provider,
    )
    texts = texts_of(request.inputs)
    if texts is not None:
        return Fitted(merge, request.inputs, counted_texts(texts, card, tokens))
    arrays = cast("list[list[int]]", request.inputs)
    counts = counted_ids(arrays, card)
    if card.takes_token_ids:
        _check_vocabulary(arrays, card, tokens)
        return Fitted(merge, request.inputs, counts)
    decoded = _decoded(arrays, resolved, tokens)
    if card.encoding != card.token_encoding:
        counted_texts(decoded, card, tokens)
    return Fitted(merge, cast("list[Input]", decoded), counts)


def work_bytes(request: EmbeddingRequest, resolved: Resolved, *, tokens: TokenCounter) -> int:
    """Say how many bytes `fit` will count or decode, about 50 ns each: many belong in a thread."""
    return doubtful_bytes(request.inputs, resolved.card, tokens)


def _dimensions(asked: int | None, resolved: Resolved) -> int | None:
    """Say what to ask the provider for: nothing where the model's own size is wanted."""
    card = resolved.card
    if asked is None or asked == card.dimensions:
        return None
    allowed = card.dimensions_allowed
    if allowed == ANY_DIMENSIONS:
        if card.dimensions is None or asked < card.dimensions:
            return asked
    elif asked in allowed:
        return asked
    raise BadRequest(
        f"The model `{resolved.model}` does not support `dimensions: {asked}`; {_sizes(card)}.",
        param="dimensions",
    )


def _sizes(card: ModelCard) -> str:
    own = "its vectors" if card.dimensions is None else f"its {card.dimensions} dimensions"
    if card.dimensions_allowed == ANY_DIMENSIONS:
        return f"1 to {card.dimensions} are possible"
    if not card.dimensions_allowed:
        return f"{own} cannot be shortened"
    sizes = {card.dimensions, *cast("tuple[int, ...]", card.dimensions_allowed)} - {None}
    return f"possible are {', '.join(map(str, sorted(cast('set[int]', sizes), reverse=True)))}"


def _with_user(request: EmbeddingRequest, card: ModelCard) -> dict[str, Any]:
    """Add the caller's user, where the provider would know what to do with it."""
    if card.merges_body or "user" in card.params:
        return {**request.params, "user": request.user}
    return request.params


def _params(wanted: dict[str, Any], resolved: Resolved, *, drop_params: bool) -> str:
    card = resolved.card
    unknown = [] if card.merges_body else [name for name in wanted if name not in card.params]
    if unknown and not drop_params:
        known = f"it knows {', '.join(card.params)}" if card.params else "it knows none"
        raise BadRequest(
            f"The model `{resolved.model}` does not know the parameter "
            f"{', '.join(f'`{name[:64]}`' for name in unknown)}; {known}.",
            param=unknown[0][:64],
        )
    return params.canonical({name: wanted[name] for name in wanted if name not in unknown})


def _check_vocabulary(arrays: list[list[int]], card: ModelCard, tokens: TokenCounter) -> None:
    if not tokens.knows(card.encoding):
        return
    size = tokens.vocabulary_size(card.encoding)
    for place, ids in enumerate(arrays):
        if max(ids) >= size:
            raise _stray_id(place)


def _decoded(arrays: list[list[int]], resolved: Resolved, tokens: TokenCounter) -> list[str]:
    encoding = resolved.card.token_encoding
    if not tokens.knows(encoding):
        raise BadRequest(
            f"The model `{resolved.model}` takes text; send it instead of token ids", param="input"
        )
    texts: list[str] = []
    for place, ids in enumerate(arrays):
        try:
            texts.append(tokens.decode(encoding, ids))
        except ValueError:
            raise _stray_id(place) from None
    return texts


def _stray_id(place: int) -> BadRequest:
    where = f"input[{place}]"
    return BadRequest(
        f"Invalid input format: {where}: a token id is not in the model's vocabulary", param=where
    )
