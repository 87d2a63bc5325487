"""What a cached vector is called, and how it is written down. Pure.

The name is a keyed digest of the input and of all that decides its vector: the merge key (without
user and encoding, which are no part of it) and what the model's deployments really are, so that a
name pointed at another model never finds the old one's vectors.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from embedpool_shared.jobs import Input, MergeKey
from embedpool_shared.vectors import FLOAT_BYTES
from embedpool_worker.deployments import Deployment

_HEAD: Final = struct.Struct("<BHI")  # version, length of the model's name, tokens
_VERSION: Final = 1
_MOST_TOKENS: Final = 0xFFFF_FFFF
MAX_SPACES: Final = 1_024
_encoder: Final = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class CachedVector:
    """One vector with what an answer from it must say."""

    vector: bytes
    tokens: int  # as its caller was counted
    model: str  # as the provider reported it


def written(cached: CachedVector) -> bytes:
    """Write a value of the cache."""
    model = cached.model.encode()[:0xFFFF]
    head = _HEAD.pack(_VERSION, len(model), min(cached.tokens, _MOST_TOKENS))
    return head + model + cached.vector


def cached_from(blob: bytes | None) -> CachedVector | None:
    """Read a value; None where there is none, or none that this version can read."""
    if blob is None or len(blob) < _HEAD.size:
        return None
    version, model_bytes, tokens = _HEAD.unpack_from(blob)
    start = _HEAD.size + model_bytes
    vector = blob[start:]
    if version != _VERSION or not vector or len(vector) % FLOAT_BYTES:
        return None
    return CachedVector(vector, tokens, blob[_HEAD.size : start].decode(errors="replace"))


def content_of(space: bytes, given: Input) -> bytes:
    """Say what a cached vector is the vector of."""
    if isinstance(given, str):
        return space + b"t" + given.encode("utf-8", "surrogatepass")
    return space + b"i" + array("q", given).tobytes()


def agreeing(found: Sequence[CachedVector], dims: int | None) -> bool:
    """Tell whether these can be vectors of one answer: all of one length, the right one if known.

    A server may have changed its model under the same name; then the length often tells.
    """
    sizes = {len(cached.vector) for cached in found}
    return len(sizes) == 1 and (dims is None or sizes == {dims * FLOAT_BYTES})


class Spaces:
    """Which vectors are comparable, by merge key."""

    def __init__(self) -> None:
        """Know none yet."""
        self._known: dict[MergeKey, bytes] = {}

    def of(self, merge: MergeKey, deployments: Sequence[Deployment]) -> bytes:
        """Name the vector space that these deployments answer this merge key from."""
        space = self._known.get(merge)
        if space is None:
            if len(self._known) >= MAX_SPACES:
                self._known.clear()
            space = self._known[merge] = _encoder.encode((merge, _places(merge, deployments)))
        return space


def _places(merge: MergeKey, deployments: Sequence[Deployment]) -> list[tuple[str, str, str, int]]:
    return sorted(
        {
            (one.provider, one.upstream_of(merge.model), one.api_base or "",
             one.default_dimensions or 0)
            for one in deployments
        }
    )  # fmt: skip


def dims_of(merge: MergeKey, deployments: Sequence[Deployment]) -> int | None:
    """The length a vector must have, where all deployments agree about it."""
    sizes = {
        merge.dimensions or one.default_dimensions or one.native_dimensions for one in deployments
    }
    return sizes.pop() if len(sizes) == 1 else None
