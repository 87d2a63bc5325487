"""How many requests may be under way, and how long to wait before the next try. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 30.0
MAX_TOLD_PAUSE_S: Final = 300.0


@dataclass(slots=True)
class Pace:
    """Halved when the pool is too busy, at most once for all requests then under way; recovers."""

    most: int
    allowed: float = 0.0
    _cuts: int = 0

    def __post_init__(self) -> None:
        self.allowed = float(self.most)

    @property
    def era(self) -> int:
        """What a request remembers when it starts."""
        return self._cuts

    def has_room(self, under_way: int) -> bool:
        """Say whether one more may start."""
        return under_way < int(self.allowed)

    def went_well(self) -> None:
        """Note an answer: one more request for each round of answers."""
        self.allowed = min(float(self.most), self.allowed + 1.0 / self.allowed)

    def was_too_much(self, era: int) -> None:
        """Note a refusal of a request that started in `era`."""
        if era == self._cuts:
            self._cuts += 1
            self.allowed = max(1.0, self.allowed / 2)


def pause_s(tries: int, told_s: float | None, *, draw: float) -> float:
    """Pause after so many tries: what the pool says, else doubling, spread by `draw` in [0, 1)."""
    if told_s is not None:
        return min(MAX_TOLD_PAUSE_S, told_s) * (1.0 + draw / 10)
    longest = min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(tries - 1, 10)))
    return longest * (0.5 + draw / 2)
