"""What LiteLLM hands back, read as vectors; and several answers as one. Pure.

Its objects are taken by their fields' names, and none of them is trusted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedpool_shared.errors import ProviderError, WrongAnswer
from embedpool_worker.providers.answers import (
    count_of,
    dims_of,
    float32_bytes,
    name_of,
    placed,
)
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall

if TYPE_CHECKING:
    from collections.abc import Sequence


def answer_from(response: Any, call: ProviderCall, *, dims: int | None) -> ProviderAnswer:
    """Read an `EmbeddingResponse`; raises `WrongAnswer` as for everybody else's answers."""
    try:
        entries = [(entry["embedding"], entry.get("index")) for entry in response.data]
    except (TypeError, KeyError, AttributeError):
        raise WrongAnswer("the provider's answer holds no embeddings") from None
    vectors = placed(
        [float32_bytes(embedding) for embedding, _ in entries],
        [index for _, index in entries],
        items=len(call.inputs),
    )
    usage = getattr(response, "usage", None)
    return ProviderAnswer(
        vectors=vectors,
        dims=dims_of(vectors, wanted=dims),
        model=name_of(getattr(response, "model", None)) or call.model,
        total_tokens=count_of(getattr(usage, "total_tokens", None)),
    )


def joined(answers: Sequence[ProviderAnswer]) -> ProviderAnswer:
    """Make one answer of those to one input each, with an exact count where all have one."""
    vectors = [vector for answer in answers for vector in answer.vectors]
    tokens = [answer.total_tokens for answer in answers]
    known = [count for count in tokens if count is not None]
    is_counted = len(known) == len(tokens)
    return replace(
        answers[-1],
        vectors=vectors,
        dims=dims_of(vectors, wanted=None),
        total_tokens=sum(known) if is_counted else None,
        item_tokens=known if is_counted else None,
    )


def first_of(errors: BaseExceptionGroup[ProviderError]) -> ProviderError:
    """The error that stands for all of a group."""
    error = errors.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
