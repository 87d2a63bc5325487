"""What providers' wire formats have in common: a question, its refusal, an answer's entries.

Pure. A format reads a body as an `Ask` and writes entries as its own answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from support import vectors
from support.faults import Behaviour, Distortion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.vectors import Input


class Refused(Exception):
    """The fake provider says no."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Ask:
    """What a call wants: vectors for `items`, in one of two encodings."""

    model: str
    items: list[Input]
    dims: int | None
    wants_base64: bool
    fields: dict[str, Any]  # the body without its inputs


@dataclass(frozen=True, slots=True)
class Entry:
    """One vector of an answer, written as JSON; `index` is None where it is left out."""

    index: int | None
    embedding: bytes


class WireFormat(Protocol):
    """One provider's way to ask and to answer."""

    def ask_from(self, path: str, body: bytes) -> Ask:
        """Read a request; raises `Refused`."""
        ...

    def answer(self, ask: Ask, entries: Sequence[Entry], tokens: int | None) -> bytes:
        """Write an answer; without `tokens`, one that reports no usage."""
        ...

    def error(self, status: int, message: str, param: str | None) -> bytes:
        """Write an error."""
        ...


def entries_of(ask: Ask, dims: int, behaviour: Behaviour) -> list[Entry]:
    """Write each input's vector, in order, distorted as the behaviour says."""
    as_base64 = ask.wants_base64 and not behaviour.ignores_base64
    write = vectors.base64_of if as_base64 else vectors.floats_of
    model = ask.model
    entries = [Entry(n, write(item, dims, model)) for n, item in enumerate(ask.items)]
    if behaviour.distortion is None:
        return entries
    last = vectors.vector_of(ask.items[-1], dims, model)
    wrong = _WRONG_VECTORS.get(behaviour.distortion)
    if wrong is not None:
        spoilt = (vectors.base64_json if as_base64 else vectors.floats_json)(wrong(last, as_base64))
        return [*entries[:-1], Entry(entries[-1].index, spoilt)]
    return _WRONG_ORDERS.get(behaviour.distortion, list)(entries)


def _starting_with(value: float, vector: bytes) -> bytes:
    return np.float32(value).tobytes() + vector[4:]


_WRONG_VECTORS: dict[Distortion, Callable[[bytes, bool], bytes]] = {
    Distortion.NAN: lambda vector, _: _starting_with(float("nan"), vector),
    Distortion.INFINITE: lambda vector, _: _starting_with(float("inf"), vector),
    Distortion.WRONG_LENGTH: lambda vector, _: vector[:-4],
    Distortion.RAGGED_BYTES: lambda vector, as_base64: vector[: -1 if as_base64 else -4],
    Distortion.EMPTY_VECTOR: lambda _vector, _: b"",
}

_WRONG_ORDERS: dict[Distortion, Callable[[list[Entry]], list[Entry]]] = {
    Distortion.FEWER: lambda entries: entries[:-1],
    Distortion.MORE: lambda entries: [*entries, Entry(len(entries), entries[-1].embedding)],
    Distortion.PERMUTED: lambda entries: entries[::-1],
    Distortion.GAP: lambda entries: [
        *entries[:-1],
        Entry(len(entries), entries[-1].embedding),
    ],
    Distortion.DUPLICATE_INDEX: lambda entries: [Entry(0, one.embedding) for one in entries],
    Distortion.NO_INDEX: lambda entries: [Entry(None, one.embedding) for one in entries],
    Distortion.FUSED: lambda entries: entries[:1],
}
