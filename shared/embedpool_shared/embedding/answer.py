"""Writes the body of an answer: vectors as base64 or JSON floats. Pure.

Bodies are written in chunks of at most about a millisecond of CPU, so that a large one does not
hold up everybody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from embedpool_shared.vectors import FLOAT_BYTES, base64_of, each, json_floats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Part = tuple[bytes, int]
"""The vectors of one job, and the dimensions of each."""

MAX_CHUNK_FLOATS: Final = 24_576
"""As JSON, at about 30 ns each."""
MAX_CHUNK_BASE64_FLOATS: Final = 131_072
"""As base64, at about 8 ns each where the memory is cold; a vector's frame costs as 256 more."""
_FRAME_FLOATS: Final = 256
_HEAD: Final = b'{"object":"list","data":['


def embedding_body(
    parts: Sequence[Part], *, is_base64: bool, model: str, prompt_tokens: int
) -> bytes:
    """Write the whole body at once; see `embedding_chunks`."""
    vectors = [vector for some, dims in parts for vector in each(some, dims)]
    items = [_item(index, vector, is_base64=is_base64) for index, vector in enumerate(vectors)]
    return b"".join([_HEAD, *items, _tail(model, prompt_tokens)])


def embedding_chunks(
    parts: Sequence[Part], *, is_base64: bool, model: str, prompt_tokens: int
) -> Iterator[bytes]:
    """Write the body of an answer, indices 0 … n-1 in the order of `parts`, piece by piece."""
    budget = MAX_CHUNK_BASE64_FLOATS if is_base64 else MAX_CHUNK_FLOATS
    written: list[bytes] = [_HEAD]
    floats = index = 0
    for vectors, dims in parts:
        for vector in each(vectors, dims):
            written.append(_item(index, vector, is_base64=is_base64))
            index += 1
            floats += _cost(len(vector), dims, is_base64=is_base64)
            if floats >= budget:
                yield b"".join(written)
                written, floats = [], 0
    written.append(_tail(model, prompt_tokens))
    yield b"".join(written)


def is_small(parts: Sequence[Part], *, is_base64: bool) -> bool:
    """Say whether the body is one chunk's work, so that nobody need be let pass meanwhile."""
    budget = MAX_CHUNK_BASE64_FLOATS if is_base64 else MAX_CHUNK_FLOATS
    return sum(_cost(len(vectors), dims, is_base64=is_base64) for vectors, dims in parts) < budget


def _cost(size_bytes: int, dims: int, *, is_base64: bool) -> int:
    floats = size_bytes // FLOAT_BYTES
    return floats + _FRAME_FLOATS * (floats // dims) if is_base64 else floats


def _item(index: int, vector: memoryview, *, is_base64: bool) -> bytes:
    comma = b"," if index else b""
    if is_base64:
        return b'%b{"object":"embedding","index":%d,"embedding":"%b"}' % (
            comma,
            index,
            base64_of(vector),
        )
    return b'%b{"object":"embedding","index":%d,"embedding":%b}' % (
        comma,
        index,
        json_floats(vector),
    )


def _tail(model: str, prompt_tokens: int) -> bytes:
    return b'],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        orjson.dumps(model),
        prompt_tokens,
        prompt_tokens,
    )
