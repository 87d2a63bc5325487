"""When a process that ended by itself is started again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Final

LONG_LIFE_S: Final = 2.0
"""A process that lived this long came up; its end says nothing about the next one's."""
MIN_APART_S: Final = 1.0
MAX_APART_S: Final = 5.0


def pause_before_restart_s(lives_s: Sequence[float]) -> float:
    """Seconds to wait before the next start, by how long earlier processes lived, latest last.

    None after a long life. After a short one two starts are a second apart, after two of them two
    seconds, and so on to five.
    """
    short = list(takewhile(lambda life_s: life_s < LONG_LIFE_S, reversed(lives_s)))
    if not short:
        return 0.0
    return max(0.0, min(MAX_APART_S, MIN_APART_S * len(short)) - short[0])
