"""How long to wait before connecting again. Pure."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0


def pause_s(failures: int, *, draw: float) -> float:
    """Pause after so many failures in a row: doubling, bounded, spread by `draw` in [0, 1)."""
    longest = min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(failures, 10)))
    return longest * (0.5 + draw / 2)
