"""The search by halves for the input in a batch that a provider refuses. Pure.

One bad input among n costs 2·⌈log2 n⌉ calls after the first. What the search finds out about the
provider's caps is told apart from what is wrong with an input: a call that held an input which is
refused even alone says nothing of caps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from embedpool_shared.errors import CapExceeded, WrongAnswer
from embedpool_worker.batch import Batch
from embedpool_worker.held import Item
from embedpool_worker.providers.cap_words import CapKind, NamedCap, cap_named

BROKEN_PARTS: Final = 4
"""When so many parts, and all there are, come back wrong, no input is to blame."""


@dataclass(frozen=True, slots=True)
class TaughtCap:
    """A cap that calls taught."""

    kind: CapKind
    number: int
    is_named: bool  # by the provider; else the largest call it took


def parts_of(refused: Batch, *, max_items: int) -> list[Batch]:
    """Halve a refused call, or cut it into even parts of at most `max_items` distinct inputs."""
    total = len(refused.inputs)
    count = max(2, -(-total // max_items))
    bounds = [total * n // count for n in range(count + 1)]
    part_of_place = [n for n in range(count) for _ in range(bounds[n], bounds[n + 1])]
    cut: list[list[Item]] = [[] for _ in range(count)]
    for item, place in zip(refused.items, refused.where, strict=True):
        cut[part_of_place[place]].append(item)
    whole = refused.lane_class, refused.deployments
    return [Batch(items, *whole, within=refused) for items in cut]


def is_nobodys_fault(parts: Sequence[Batch]) -> bool:
    """Tell whether so much came back wrong at once that the provider must be broken."""
    return len(parts) >= BROKEN_PARTS and all(
        isinstance(part.refusal, WrongAnswer) for part in parts
    )


def taught_at_once(calls: Sequence[Batch]) -> Iterator[TaughtCap]:
    """List what refusals prove by themselves: numbers of items, which no single input exceeds."""
    for call in calls:
        cap = _cap_in(call)
        if cap is not None and cap.kind is CapKind.ITEMS and cap.number is not None:
            yield TaughtCap(cap.kind, cap.number, is_named=True)


def taught_by(calls: Sequence[Batch]) -> Iterator[TaughtCap]:
    """List what a whole search teaches: the numbers named, else the size of what was answered."""
    refused = [
        (call, cap)
        for call in calls
        if not call.holds_refused_input and (cap := _cap_in(call)) is not None
    ]
    for kind in CapKind:
        about = [(call, cap) for call, cap in refused if cap.kind is kind]
        numbers = [cap.number for _, cap in about if cap.number is not None]
        if numbers:
            yield TaughtCap(kind, min(numbers), is_named=True)
        elif about:
            smallest = min(call.size(kind) for call, _ in about)
            yield from _largest_answered(calls, kind, below=smallest)


def _largest_answered(calls: Sequence[Batch], kind: CapKind, *, below: int) -> Iterator[TaughtCap]:
    sizes = [call.size(kind) for call in calls if call.was_answered]
    fitting = [size for size in sizes if 0 < size < below]
    if fitting:
        yield TaughtCap(kind, max(fitting), is_named=False)


def _cap_in(call: Batch) -> NamedCap | None:
    """The cap a refusal is about; with its number only where that explains the refusal."""
    if not isinstance(call.refusal, CapExceeded):
        return None
    cap = cap_named(f"{call.refusal.message} {call.refusal.code or ''}")
    if cap is None:  # a 413 without words is about the body
        return NamedCap(CapKind.CALL_BYTES, None)
    if cap.number is not None and call.size(cap.kind) <= cap.number:
        return NamedCap(cap.kind, None)
    return cap
