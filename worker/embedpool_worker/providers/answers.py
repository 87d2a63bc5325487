"""Whether an answer holds exactly the vectors that were asked for. Pure.

Vectors are little-endian float32 bytes from the first moment. Everything here raises `WrongAnswer`
rather than deliver a vector that might belong to another input.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pybase64

from embedpool_shared.errors import WrongAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAME_CHARS: Final = 256
MAX_COUNT: Final = 2**53


def float32_bytes(embedding: str | Sequence[float]) -> bytes:
    """Turn an embedding as JSON carries it, base64 or numbers, into little-endian float32."""
    try:
        if isinstance(embedding, str):
            return pybase64.b64decode(embedding, validate=True)
        # The platforms we promise are little-endian.
        return array("f", embedding).tobytes()
    except (TypeError, ValueError, OverflowError):
        kind = "base64" if isinstance(embedding, str) else "a list of numbers"
        raise WrongAnswer(f"the provider answered an embedding that is not {kind}") from None


def count_of(said: Any) -> int | None:
    """A provider's count of tokens, None for what is none; an answer is not worth less for it."""
    is_count = isinstance(said, int) and not isinstance(said, bool) and 0 <= said < MAX_COUNT
    return said if is_count else None


def name_of(said: Any) -> str | None:
    """The model's name as the provider reports it, None for what is none."""
    is_name = isinstance(said, str) and 0 < len(said) <= MAX_NAME_CHARS and said.isprintable()
    return said if is_name else None


def placed(vectors: Sequence[bytes], indices: Sequence[int | None], *, items: int) -> list[bytes]:
    """Order `vectors` by their indices; where no vector has one, the order is the provider's."""
    if len(vectors) != items:
        raise WrongAnswer(f"the provider answered {len(vectors)} vectors for {items} inputs")
    if list(indices) == list(range(items)) or all(index is None for index in indices):
        return list(vectors)
    by_index = dict(zip(indices, vectors, strict=True))
    try:
        return [by_index[index] for index in range(items)]
    except KeyError as error:
        raise WrongAnswer(f"the provider answered no vector of index {error.args[0]}") from None


def dims_of(vectors: Sequence[bytes], *, wanted: int | None) -> int:
    """The number of dimensions all `vectors` have: `wanted` where that is known, all finite."""
    size_bytes = len(vectors[0]) if vectors else 0
    if size_bytes == 0 or size_bytes % 4:
        raise WrongAnswer(f"the provider answered {size_bytes} bytes, which are no float32 vector")
    if set(map(len, vectors)) != {size_bytes}:
        raise WrongAnswer("the provider answered vectors of different lengths")
    dims = size_bytes // 4
    if wanted is not None and dims != wanted:
        raise WrongAnswer(f"the provider answered {dims} dimensions instead of {wanted}")
    if not all(map(_is_finite, vectors)):
        raise WrongAnswer("the provider answered a vector with NaN or infinity in it")
    return dims


def _is_finite(vector: bytes) -> bool:
    """Look at the last byte of each number: most of the exponent, whose bits are all set in none.

    That alone acquits all but numbers beyond 10^38, which are looked at whole.
    """
    exponents = vector[3::4]
    if b"\x7f" not in exponents and b"\xff" not in exponents:
        return True
    return bool(np.isfinite(np.frombuffer(vector, dtype="<f4")).all())
