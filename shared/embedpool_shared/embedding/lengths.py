"""Whether a model takes inputs of this length; only doubtful ones are counted. Pure.

A byte-level tokenizer makes at most one token of a byte, so a text of no more bytes than the
model takes tokens is never counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from embedpool_shared.embedding.inputs import size_bytes, total_bytes
from embedpool_shared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedpool_shared.catalog import ModelCard
    from embedpool_shared.jobs import Input

SAMPLE_LETTERS: Final = 65_536
"""What is too long is counted no further: a sample says how much there would have been."""


class TokenCounter(Protocol):
    """What we ask a tokenizer; `embedpool_shared.tokens` is one."""

    def knows(self, encoding: str, /) -> bool:
        """Say whether `encoding` can be counted with."""
        ...

    def vocabulary_size(self, encoding: str, /) -> int:
        """Count the ids that stand for text."""
        ...

    def count(self, encoding: str, text: str, /) -> int:
        """Count the tokens of `text`."""
        ...

    def count_up_to(self, encoding: str, text: str, limit: int, /) -> int | None:
        """Count the tokens of `text`; None when there are more than `limit`."""
        ...

    def decode(self, encoding: str, ids: Sequence[int], /) -> str:
        """Turn `ids` into text; raises ValueError for an id that stands for none."""
        ...


def counted_ids(arrays: Sequence[list[int]], card: ModelCard) -> list[int]:
    """Count each token array; raises `BadRequest` when one, or all together, are too long.

    Ids of a foreign vocabulary say nothing of the model's limits: their text does, once decoded.
    """
    counts = [len(ids) for ids in arrays]
    if not (card.takes_token_ids or card.encoding == card.token_encoding):
        return counts
    for place, tokens in enumerate(counts):
        if tokens > card.max_item_tokens:
            raise too_long(place, tokens, card)
    if sum(counts) > card.max_request_tokens:
        raise too_many(sum(counts), card)
    return counts


def counted_texts(texts: Sequence[str], card: ModelCard, tokens: TokenCounter) -> list[int] | None:
    """Count each text where bytes leave a doubt, else None; raises `BadRequest` when too long."""
    if not tokens.knows(card.encoding):
        return None
    if total_bytes(texts) > card.max_request_tokens:
        return _all_counted(texts, card, tokens)
    counts = [
        _item_tokens(place, text, card, tokens)
        for place, text in enumerate(texts)
        if size_bytes(text) > card.max_item_tokens
    ]
    return counts if len(counts) == len(texts) else None


def doubtful_bytes(inputs: Sequence[Input], card: ModelCard, tokens: TokenCounter) -> int:
    """Say how many bytes `fit` would count or decode: about 50 ns each, and not on the loop."""
    size = total_bytes(inputs)
    if type(inputs[0]) is not str:
        return 0 if card.takes_token_ids else size
    if not tokens.knows(card.encoding):
        return 0
    if size > card.max_request_tokens:
        return size
    return sum(each for each in map(size_bytes, inputs) if each > card.max_item_tokens)


def too_long(place: int, tokens: int, card: ModelCard) -> BadRequest:
    """Say so in OpenAI's words, because clients read the two numbers out of them."""
    return BadRequest(
        f"This model's maximum context length is {card.max_item_tokens} tokens, however you "
        f"requested {tokens} tokens ({tokens} in your prompt; 0 for the completion). Please "
        "reduce your prompt; or completion length.",
        param=f"input[{place}]",
    )


def too_many(tokens: int, card: ModelCard) -> BadRequest:
    """Say that the inputs together are too long."""
    return BadRequest(
        f"Requested {tokens} tokens, max {card.max_request_tokens} tokens per request",
        param="input",
        code="max_tokens_per_request",
    )


def _all_counted(texts: Sequence[str], card: ModelCard, tokens: TokenCounter) -> list[int]:
    counts: list[int] = []
    so_far = bytes_so_far = 0
    for place, text in enumerate(texts):
        counts.append(_item_tokens(place, text, card, tokens))
        so_far += counts[-1]
        bytes_so_far += size_bytes(text)
        if so_far > card.max_request_tokens:
            raise too_many(so_far * total_bytes(texts) // bytes_so_far, card)
    return counts


def _item_tokens(place: int, text: str, card: ModelCard, tokens: TokenCounter) -> int:
    found = tokens.count_up_to(card.encoding, text, card.max_item_tokens)
    if found is None:
        raise too_long(place, _estimate(text, card, tokens), card)
    return found


def _estimate(text: str, card: ModelCard, tokens: TokenCounter) -> int:
    sample = text[:SAMPLE_LETTERS]
    estimate = tokens.count(card.encoding, sample) * len(text) // len(sample)
    return max(estimate, card.max_item_tokens + 1)


def texts_of(inputs: list[Input]) -> list[str] | None:
    """See a request's inputs as texts; None when they are token arrays."""
    return cast("list[str]", inputs) if type(inputs[0]) is str else None
