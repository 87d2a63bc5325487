"""What to do with a request that was refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from embedpool_cli.embed.answers import Refusal, Verdict

DOUBTS_BEFORE_BLAME: Final = 5
SHRINKS_BEFORE_SPLIT: Final = 2
MIN_SHRUNK_ITEMS: Final = 8


class Step(Enum):
    """What comes next."""

    PAUSE = auto()  # and try again
    SPLIT = auto()  # into two requests
    REJECT = auto()  # its one text
    STOP = auto()  # the run


@dataclass(slots=True)
class Trial:
    """How often a request, and those it was split from, has been refused."""

    items: int
    tries: int = 0
    failing_since: float | None = None  # on the loop's clock
    _doubts: int = 0
    _shrinks: int = 0

    def step(self, refusal: Refusal, *, is_alone: bool, others_fare_well: bool) -> Step:
        """Choose for a refusal; `others_fare_well`: one was answered since this first failed."""
        self.tries += 1
        match refusal.verdict:
            case Verdict.STOP:
                return Step.STOP
            case Verdict.SPLIT:
                return Step.SPLIT if self.items > 1 else Step.REJECT
            case Verdict.SHRINK:
                self._shrinks += 1
                is_large = self.items >= 2 * MIN_SHRUNK_ITEMS
                has_had_enough = self._shrinks >= SHRINKS_BEFORE_SPLIT
                return Step.SPLIT if is_large and has_had_enough else Step.PAUSE
            case Verdict.DOUBT:
                self._doubts += 1
                return self._in_doubt(is_alone=is_alone, others_fare_well=others_fare_well)
            case Verdict.WAIT:
                return Step.PAUSE

    def part(self, items: int) -> Trial:
        """Begin the trial of a part of it, which has little left to prove."""
        return Trial(items, failing_since=self.failing_since, _doubts=max(0, self._doubts - 2))

    def _in_doubt(self, *, is_alone: bool, others_fare_well: bool) -> Step:
        # While nobody is answered it is the provider; then no text is to blame.
        if self._doubts < DOUBTS_BEFORE_BLAME or not (others_fare_well or is_alone):
            return Step.PAUSE
        if self.items > 1:
            return Step.SPLIT
        return Step.REJECT if others_fare_well else Step.PAUSE
