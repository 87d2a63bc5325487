"""Which lines of a batch are under way, and what may leave or enter next. Pure.

Lines enter in the order of the file and end in any order. Those that ended leave from the front, a
part at a time, and count against the bounds until the part is booked: whoever dies loses at most
one window. All instants (`…_at`) are on the loop's clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

TOTAL_INPUTS: Final = 16_384
"""What all batches together may have under way: enough to fill every key's calls."""
MIN_INPUTS: Final = 1_024
TOTAL_VECTOR_BYTES: Final = 96 * 1024 * 1024
"""… unless their vectors are longer than 1,536 numbers: answers are kept until they are booked."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""Of a window's lines."""
FLUSH_SHARE: Final = 4
"""A part leaves as soon as one in so many of the window's inputs is ready …"""
FLUSH_AFTER_S: Final = 1.0
"""… or when its first line has been ready for so long."""

L = TypeVar("L")


@dataclass(slots=True, eq=False)
class Entered(Generic[L]):
    """One line under way."""

    number: int  # in the file, from 1
    next_byte: int  # where the line after it begins
    inputs: int
    size_bytes: int
    line: L
    has_ended: bool = False
    tries: int = 0
    provider_failures: int = 0


@dataclass(slots=True)
class Load:
    """What some lines amount to."""

    lines: int = 0
    inputs: int = 0
    size_bytes: int = 0

    def add(self, entry: Entered[L]) -> None:
        """Count a line."""
        self.lines += 1
        self.inputs += entry.inputs
        self.size_bytes += entry.size_bytes

    def take(self, other: Load) -> None:
        """Count others no more."""
        self.lines -= other.lines
        self.inputs -= other.inputs
        self.size_bytes -= other.size_bytes


@dataclass(slots=True)
class Window(Generic[L]):
    """The lines of one batch beyond the last one booked."""

    load: Load = field(default_factory=Load)
    ready: Load = field(default_factory=Load)
    ready_at: float | None = None  # since when the first line is ready to leave
    _lines: deque[Entered[L]] = field(default_factory=deque)
    _resting: list[tuple[float, Entered[L]]] = field(default_factory=list)

    def has_room(self, *, max_inputs: int) -> bool:
        """Tell whether another line may enter; a line alone always may."""
        load = self.load
        return load.inputs < max_inputs and load.lines < max_inputs and load.size_bytes < MAX_BYTES

    def enter(self, entry: Entered[L], *, now: float) -> None:
        """Let the next line of the file in."""
        self.load.add(entry)
        self._lines.append(entry)
        if entry.has_ended:
            self._extend_ready(now)

    def end(self, entry: Entered[L], *, now: float) -> None:
        """A line is done with, well or not."""
        entry.has_ended = True
        self._extend_ready(now)

    def rest(self, entry: Entered[L], *, until_at: float) -> None:
        """A line is to be tried again then."""
        self._resting.append((until_at, entry))

    def rested(self, *, now: float) -> list[Entered[L]]:
        """Take those whose time to be tried again has come, in the order of the file."""
        due = [entry for at, entry in self._resting if at <= now]
        self._resting = [(at, entry) for at, entry in self._resting if at > now]
        return sorted(due, key=lambda entry: entry.number)

    @property
    def next_rested_at(self) -> float | None:
        """When the next line is to be tried again."""
        return min((at for at, _ in self._resting), default=None)

    @property
    def left(self) -> list[Entered[L]]:
        """The lines that were not taken out yet, ended or not."""
        return list(self._lines)

    @property
    def is_ready_whole(self) -> bool:
        """Whether nothing is under way any more."""
        return self.ready.lines == len(self._lines)

    @property
    def is_empty(self) -> bool:
        """Whether every line that entered has been taken out."""
        return not self._lines

    def flush_at(self, *, max_inputs: int, is_last: bool, now: float) -> float | None:
        """When a part should leave: `now` or before is at once, None is nothing to send."""
        if self.ready_at is None:
            return None
        if not _is_small(self.ready, max_inputs) or (is_last and self.is_ready_whole):
            return now
        return self.ready_at + FLUSH_AFTER_S

    def take(self, *, max_inputs: int, now: float) -> list[Entered[L]]:
        """Take what is ready, in parts; it counts against the bounds until it is `booked`."""
        part = Load()
        taken: list[Entered[L]] = []
        while part.lines < self.ready.lines and _is_small(part, max_inputs):
            taken.append(self._lines.popleft())
            part.add(taken[-1])
        self.ready.take(part)
        self.ready_at = now if self.ready.lines else None
        return taken

    def booked(self, entries: list[Entered[L]]) -> None:
        """These are safe."""
        gone = Load()
        for entry in entries:
            gone.add(entry)
        self.load.take(gone)

    def _extend_ready(self, now: float) -> None:
        """Count how far the lines at the front have ended."""
        lines = self._lines
        while self.ready.lines < len(lines) and lines[self.ready.lines].has_ended:
            self.ready.add(lines[self.ready.lines])
            self.ready_at = now if self.ready_at is None else self.ready_at


def _is_small(part: Load, max_inputs: int) -> bool:
    """Tell whether a part may still grow."""
    return (
        max(part.inputs, part.lines) * FLUSH_SHARE < max_inputs
        and part.size_bytes * FLUSH_SHARE < MAX_BYTES
    )


def share(running: int, *, dims: int) -> int:
    """Say how large each window is while so many batches run; equal windows mean equal speed.

    `dims` is the length of the vectors, 0 while it is not known.
    """
    total = TOTAL_INPUTS
    if dims:
        total = min(total, TOTAL_VECTOR_BYTES // (4 * dims))
    return max(MIN_INPUTS, total // max(1, running))
