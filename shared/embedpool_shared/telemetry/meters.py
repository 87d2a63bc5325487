"""What one process has counted and measured so far, by metric and labels. Pure.

The instruments are numbers in memory: what happens on the way of a request costs no more than
adding to one. Somebody else carries them out of the process, now and then and whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from embedpool_shared.measures import Kind, Measure, measure


class Count:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        """Begin at zero."""
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Grow by so much."""
        self.value += amount


class Level:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        """Begin at zero."""
        self.value = 0.0

    def add(self, amount: float) -> None:
        """Go up by so much, or down."""
        self.value += amount

    def set(self, value: float) -> None:
        """Be this."""
        self.value = value


class Spread:
    """How often values fell between which edges, and their sum."""

    __slots__ = ("counts", "edges", "total")

    def __init__(self, edges: Sequence[float]) -> None:
        """Begin with no values; an edge belongs to what is below it."""
        self.edges: Final = edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        """Take in one value."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.total += value


Instrument = Count | Level | Spread
Made = tuple[Measure, tuple[str, ...], Instrument]
"""An instrument with its metric and its labels' values."""
T = TypeVar("T", Count, Level, Spread)


class Family(Generic[T]):
    """The instruments of one metric, by the values of its labels."""

    __slots__ = ("_made", "_make", "measure", "members")

    def __init__(self, measured: Measure, make: Callable[[], T], made: list[Made]) -> None:
        """Begin with none; `make` makes one, and `made` lists it."""
        self.measure = measured
        self.members: dict[tuple[str, ...], T] = {}
        self._made = made
        self._make: Callable[[], T] = make

    def of(self, *labels: str) -> T:
        """Find the instrument with these labels' values, in the order of the table."""
        member = self.members.get(labels)
        if member is None:
            if len(labels) != len(self.measure.labels):
                raise ValueError(f"{self.measure.name} has labels {self.measure.label_names}")
            member = self.members[labels] = self._make()
            self._made.append((self.measure, labels, member))
        return member


class Meters:
    """All instruments of one process."""

    def __init__(self) -> None:
        """Begin with none."""
        self.made: list[Made] = []
        """Every instrument there is, in the order in which they were made."""
        self._names: set[str] = set()

    def counts(self, name: str) -> Family[Count]:
        """Make the instruments of a counter."""
        return Family(self._new(name, Kind.COUNTER), Count, self.made)

    def levels(self, name: str) -> Family[Level]:
        """Make the instruments of a gauge."""
        return Family(self._new(name, Kind.GAUGE), Level, self.made)

    def spreads(self, name: str) -> Family[Spread]:
        """Make the instruments of a histogram."""
        measured = self._new(name, Kind.HISTOGRAM)
        return Family(measured, lambda: Spread(measured.buckets), self.made)

    def _new(self, name: str, kind: Kind) -> Measure:
        found = measure(name)
        if found.kind is not kind:
            raise ValueError(f"{found.name} is a {found.kind}, no {kind}")
        if name in self._names:
            raise ValueError(f"{found.name} has its instruments already")
        self._names.add(name)
        return found
