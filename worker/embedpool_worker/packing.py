"""Which waiting items leave together, and when. Pure.

A batch is decided at the last moment, when a permit is at hand. Until then it grows by itself, so
under load nothing needs tuning; the linger only stops a quick provider from being fed single items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from embedpool_shared.jobs import Input
from embedpool_worker.caps import Caps
from embedpool_worker.held import HeldJob, Item

Join = Callable[[Item], bool]
"""Lets an item join a call that its input is already part of; False if there is none."""
InputKey = str | tuple[int, ...]
"""An input, fit for a dictionary."""

UNBOUNDED = 1 << 60
BULK_FILL_SHARE = 0.1
"""Bulk items ride along in an interactive batch while they add at most this share of its tokens."""


@dataclass(slots=True)
class Waiting:
    """Items of one merge key and class, oldest first, with their sums."""

    items: deque[Item] = field(default_factory=deque)
    tokens: int = 0
    size_bytes: int = 0
    leased: int = 0  # how many came from Redis, and not directly

    def append(self, item: Item) -> None:
        """Queue an item."""
        self.items.append(item)
        self.leased += item.job.pack.home is None
        self.tokens += item.tokens
        self.size_bytes += item.size_bytes

    def pop_left(self) -> Item:
        """Take the oldest."""
        item = self.items.popleft()
        self.leased -= item.job.pack.home is None
        self.tokens -= item.tokens
        self.size_bytes -= item.size_bytes
        return item


@dataclass(slots=True)
class Formed:
    """The items of one provider call, and those that turned out to be nobody's any more."""

    items: list[Item] = field(default_factory=list)
    unwanted: set[HeldJob] = field(default_factory=set)


def due_in(
    waiting: Waiting, caps: Caps, *, in_flight: int, linger_s: float, now: float
) -> float | None:
    """Seconds until the next batch should leave; 0.0 is now, None is nothing to send."""
    if not waiting.items:
        return None
    if in_flight == 0 or is_full(waiting, caps):
        return 0.0
    return max(0.0, waiting.items[0].job.pack.arrived_at + linger_s - now)


def is_full(waiting: Waiting, caps: Caps) -> bool:
    """Tell whether waiting longer could not make the next call larger."""
    return (
        len(waiting.items) >= caps.max_items
        or (caps.max_call_tokens is not None and waiting.tokens >= caps.max_call_tokens)
        or (caps.max_call_bytes is not None and waiting.size_bytes >= caps.max_call_bytes)
    )


def form(
    waiting: Waiting,
    caps: Caps,
    *,
    now: float,
    bulk: Waiting | None = None,
    join: Join | None = None,
) -> Formed:
    """Take the next batch off the front of `waiting`, within `caps`.

    Items of jobs that ended already or are somebody else's now are dropped, as are those that
    `join` a call under way; jobs that were cancelled or are past their deadline are listed as
    unwanted. `bulk` fills room that is left, but never lengthens the call noticeably. Texts and
    token arrays never share a call.
    """
    batch = Formed()
    room = _Room(caps, join)
    _take(waiting, batch, room, now=now)
    if bulk and batch.items:
        tokens = sum(item.tokens for item in batch.items)
        room.tokens_left = min(room.tokens_left, int(tokens * BULK_FILL_SHARE))
        _take(bulk, batch, room, now=now)
    return batch


class _Room:
    """What still fits into the call being formed."""

    __slots__ = ("bytes_left", "is_text", "item_tokens", "items_left", "join", "tokens_left")

    def __init__(self, caps: Caps, join: Join | None) -> None:
        self.join = join
        self.item_tokens = caps.max_item_tokens
        self.items_left = caps.max_items
        self.tokens_left = UNBOUNDED if caps.max_call_tokens is None else caps.max_call_tokens
        self.bytes_left = UNBOUNDED if caps.max_call_bytes is None else caps.max_call_bytes
        self.is_text: bool | None = None

    def has_place_for(self, item: Item) -> bool:
        """An item above a cap of its own still travels, alone."""
        if self.is_text is None:
            return True
        return (
            self.items_left > 0
            and item.tokens <= min(self.item_tokens, self.tokens_left)
            and item.size_bytes <= self.bytes_left
            and isinstance(item.input, str) is self.is_text
        )

    def take(self, item: Item) -> None:
        self.is_text = isinstance(item.input, str)
        self.items_left = self.items_left - 1 if item.tokens <= self.item_tokens else 0
        self.tokens_left -= item.tokens
        self.bytes_left -= item.size_bytes


def _take(waiting: Waiting, batch: Formed, room: _Room, *, now: float) -> None:
    while waiting.items:
        item = waiting.items[0]
        job = item.job
        if job.has_ended or job.pack.is_lost:
            waiting.pop_left()
        elif job.is_cancelled or job.deadline_at <= now:
            waiting.pop_left()
            batch.unwanted.add(job)
        elif room.join is not None and room.join(item):
            waiting.pop_left()
        elif room.has_place_for(item):
            room.take(item)
            job.pack.is_begun = True
            batch.items.append(waiting.pop_left())
        else:
            return


def input_key(given: Input) -> InputKey:
    """Make an input fit for a dictionary."""
    return given if isinstance(given, str) else tuple(given)


def distinct(items: Iterable[Item]) -> tuple[dict[InputKey, Item], list[int]]:
    """Find the first item of each different input, and every item's place among those."""
    firsts: dict[InputKey, Item] = {}
    places: dict[InputKey, int] = {}
    where = []
    for item in items:
        key = input_key(item.input)
        place = places.get(key)
        if place is None:
            place = places[key] = len(firsts)
            firsts[key] = item
        where.append(place)
    return firsts, where
