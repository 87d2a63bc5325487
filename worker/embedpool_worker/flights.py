"""Which inputs are on their way to a provider, and who joined them there. Pure.

An item whose very input is already in flight under the same merge key is not sent again: it waits
for that call's answer and shares its fate, except that a call which only ran out of its own time
gives the item back to the queue.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from embedpool_shared.jobs import MergeKey
from embedpool_worker.held import Item
from embedpool_worker.packing import InputKey, Join, input_key

MAX_JOINED: Final = 10_000
"""More than so many items in all do not wait outside the queue, where nobody counts them."""


class Flight:
    """The inputs of one batch, until each has landed."""

    __slots__ = ("_flights", "_joined", "_keys", "_merge")

    def __init__(self, flights: Flights, merge: MergeKey, keys: Collection[InputKey]) -> None:
        """Take off."""
        self._flights = flights
        self._merge = merge
        self._keys = keys
        self._joined: dict[InputKey, list[Item]] = {}
        flights.took_off(merge, keys, self)

    def join(self, key: InputKey, item: Item) -> None:
        """Let an item wait for the answer to its input."""
        self._joined.setdefault(key, []).append(item)

    def landed(self, keys: Collection[InputKey]) -> tuple[list[Item], list[int]]:
        """List who joined these inputs, and for each the place of its input; nobody else can."""
        self._flights.are_down(self._merge, keys, self)
        items: list[Item] = []
        where: list[int] = []
        if self._joined:
            for place, key in enumerate(keys):
                joined = self._joined.pop(key, [])
                items += joined
                where += [place] * len(joined)
            self._flights.left(len(items))
        return items, where

    def ended(self) -> list[Item]:
        """End what has not landed, whatever went wrong, and list who had joined it."""
        self._flights.are_down(self._merge, self._keys, self)
        items = [item for joined in self._joined.values() for item in joined]
        self._joined = {}
        self._flights.left(len(items))
        return items


class Flights:
    """Everything one lane has in flight."""

    def __init__(self, *, max_joined: int = MAX_JOINED) -> None:
        """Begin with nothing."""
        self._by_merge: dict[MergeKey, dict[InputKey, Flight]] = {}
        self._max_joined = max_joined
        self._joined = 0

    def joining(self, merge: MergeKey) -> Join | None:
        """How to join what is in flight under this merge key; None while nothing is."""
        return self.join if merge in self._by_merge else None

    def not_aloft(self, items: list[Item]) -> list[Item]:
        """Let items of one job join what is in flight; list those that cannot."""
        if not items or self.joining(items[0].job.merge) is None:
            return items
        return [item for item in items if not self.join(item)]

    def join(self, item: Item) -> bool:
        """Let an item join its input's flight; False if there is none."""
        job = item.job
        aloft = self._by_merge.get(job.merge)
        if not aloft or self._joined >= self._max_joined:
            return False
        key = input_key(item.input)
        flight = aloft.get(key)
        if flight is None:
            return False
        flight.join(key, item)
        self._joined += 1
        job.pack.is_begun = True
        return True

    def took_off(self, merge: MergeKey, keys: Iterable[InputKey], flight: Flight) -> None:
        """Note what can be joined; what flies twice is joined where it took off last."""
        self._by_merge.setdefault(merge, {}).update(dict.fromkeys(keys, flight))

    def are_down(self, merge: MergeKey, keys: Iterable[InputKey], flight: Flight) -> None:
        """Forget what has landed."""
        aloft = self._by_merge.get(merge)
        if aloft is None:
            return
        for key in keys:
            if aloft.get(key) is flight:
                del aloft[key]
        if not aloft:
            del self._by_merge[merge]

    def left(self, items: int) -> None:
        """Count those who have their answer."""
        self._joined -= items
