"""Vectors as bytes: little-endian float32, item after item, and what becomes of them. Pure.

A vector is never a list of Python floats: that costs thirty times what its bytes cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import orjson
import pybase64

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

FLOAT_BYTES: Final = 4
_FLOAT32: Final = np.dtype("<f4")


def base64_of(vector: bytes | memoryview) -> bytes:
    """Write a vector as `encoding_format: base64` wants it."""
    return pybase64.b64encode(vector)


def bytes_of_base64(text: str | bytes) -> bytes:
    """Read a vector from base64; raises ValueError where it is none, or not whole float32."""
    vector = pybase64.b64decode(text, validate=True)
    if len(vector) % FLOAT_BYTES:
        raise ValueError(f"{len(vector)} bytes are not a whole number of float32")
    return vector


def json_floats(vector: bytes | memoryview) -> bytes:
    """Write a vector as a JSON array of floats, each the shortest that reads back the same."""
    return orjson.dumps(np.frombuffer(vector, _FLOAT32), option=orjson.OPT_SERIALIZE_NUMPY)


def bytes_of_floats(floats: Sequence[float] | npt.NDArray[np.floating]) -> bytes:
    """Read a vector from numbers; one beyond float32 becomes infinite, see `is_finite`."""
    with np.errstate(over="ignore"):
        return np.asarray(floats, dtype=_FLOAT32).tobytes()


def is_finite(vectors: bytes | memoryview) -> bool:
    """Say whether every number of these vectors is one: no NaN, no infinity."""
    return bool(np.isfinite(np.frombuffer(vectors, _FLOAT32)).all())


def each(vectors: bytes, dims: int) -> Iterator[memoryview]:
    """Look at one vector after the other, without copying; `dims` is the length of each."""
    view = memoryview(vectors)
    size_bytes = dims * FLOAT_BYTES
    for start in range(0, len(vectors), size_bytes):
        yield view[start : start + size_bytes]
