"""The pulse of a process: how late its loop is, and its numbers carried out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from embedpool_shared.telemetry.meters import Spread

BEAT_S: Final = 0.5


async def beat(lag_s: Spread, carry_out: Callable[[], None]) -> None:
    """Measure and carry out for ever."""
    while True:
        due_at = monotonic() + BEAT_S  # uvloop's own clock stands still while it is busy
        await asyncio.sleep(BEAT_S)
        lag_s.note(max(0.0, monotonic() - due_at))
        carry_out()
