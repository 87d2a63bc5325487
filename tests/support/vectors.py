"""The vector and the token count the fake provider gives an input. Pure.

A vector is a head of twelve floats and a body of twelve others, repeated up to its length: cheap
enough for 50,000 a second, its base64 and its JSON repeat as well, and a slice cut at a wrong place
still shows, because the head stands at the front only. Both come from one digest of model,
dimensions and input, so no two of them share a vector.
"""

from __future__ import annotations

from binascii import b2a_base64
from functools import lru_cache
from hashlib import blake2b
from math import sqrt
from typing import Final

import numpy as np
import orjson

Input = str | list[int]
"""One item: a text, or the ids of a token array."""

BLOCK_FLOATS: Final = 12
_BLOCK_BYTES: Final = 4 * BLOCK_FLOATS
_DIGEST_BYTES: Final = 2 * 2 * BLOCK_FLOATS
_INT16: Final = np.dtype("<i2")


@lru_cache(maxsize=64)
def _scale(dims: int) -> np.float32:
    # A uniform spread over [-s, s] has variance s²/3, so the vector's norm is about one.
    return np.float32(sqrt(3 / dims) / 32_768)


def _blocks(item: Input, dims: int, model: str) -> bytes:
    seed = f"{model}\0{dims}\0{item}" if isinstance(item, str) else f"{model}\0{dims}\0\0{item}"
    digest = blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    # int16 × float32 is float32.
    return (np.frombuffer(digest, _INT16) * _scale(dims)).tobytes()


def vector_of(item: Input, dims: int, model: str = "") -> bytes:
    """Compute the answer to `item`: `dims` finite little-endian float32, not all equal, norm ≈ 1.

    `model` is the name the provider was asked for.
    """
    blocks = _blocks(item, dims, model)
    repeats = -(-dims // BLOCK_FLOATS)
    return (blocks[:_BLOCK_BYTES] + blocks[_BLOCK_BYTES:] * repeats)[: 4 * dims]


def base64_of(item: Input, dims: int, model: str) -> bytes:
    """Write `vector_of` as a JSON string of base64."""
    repeats, rest = divmod(dims, BLOCK_FLOATS)
    if rest:
        return base64_json(vector_of(item, dims, model))
    # 48 bytes are 64 characters without padding, so base64 repeats where the bytes do.
    text = b2a_base64(_blocks(item, dims, model), newline=False)
    return b'"%b%b"' % (text[:64], text[64:] * (repeats - 1))


def floats_of(item: Input, dims: int, model: str) -> bytes:
    """Write `vector_of` as a JSON array; nine digits, so a reader gets the same float32."""
    repeats, rest = divmod(dims, BLOCK_FLOATS)
    if rest:
        return floats_json(vector_of(item, dims, model))
    blocks = _blocks(item, dims, model)
    head, body = floats_json(blocks[:_BLOCK_BYTES]), floats_json(blocks[_BLOCK_BYTES:])
    return head[:-1] + (b"," + body[1:-1]) * (repeats - 1) + b"]"


def base64_json(vector: bytes) -> bytes:
    """Write any bytes as a JSON string of base64."""
    return b'"%b"' % b2a_base64(vector, newline=False)


def floats_json(vector: bytes) -> bytes:
    """Write float32 bytes as a JSON array of numbers; NaN becomes null."""
    return orjson.dumps(np.frombuffer(vector, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY)


def token_count(item: Input) -> int:
    """Count as the fake bills: a quarter of the UTF-8 bytes, rounded up; ids as themselves."""
    if not isinstance(item, str):
        return len(item)
    size = len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
    return max(1, -(-size // 4))
