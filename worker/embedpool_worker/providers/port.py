"""The port every provider adapter implements: items in, float32 bytes and usage out. Pure.

An adapter serves one deployment, makes exactly one HTTP attempt per call, and raises nothing but
the `ProviderError`s of `embedpool_shared.errors` (their message is the provider's own, without
anything that looks like a key). Retries, keys and waiting are decided elsewhere: whoever calls
minds the time, and cancels a call that takes too long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from embedpool_shared.jobs import Input

# Neither is frozen: a frozen dataclass takes three times as long to make.


@dataclass(slots=True)
class ProviderCall:
    """One batch on its way out: n inputs under one merge key."""

    model: str  # the provider's own name of the model
    inputs: Sequence[Input]  # all texts or all token arrays
    dimensions: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)  # belong in the JSON body, nowhere else
    secret: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0  # for libraries that insist on one; the caller minds it


@dataclass(slots=True)
class ProviderAnswer:
    """n vectors in the order of the inputs, each `dims` little-endian float32."""

    vectors: Sequence[bytes]
    dims: int
    model: str  # as the provider reported it, else as it was asked for
    total_tokens: int | None = None  # the provider's own usage, None where it reports none
    item_tokens: Sequence[int] | None = None  # exact count per input, where the adapter has it
    headers: Mapping[str, str] = field(default_factory=dict)  # lower case; for rate limits


class Provider(Protocol):
    """One deployment's adapter."""

    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        """Answer every input of `call`, or raise one `ProviderError`."""
        ...

    async def close(self) -> None:
        """Give back connections and threads."""
        ...
