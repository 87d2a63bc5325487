"""The pulse of a process: how late its loop is, and its numbers carried out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from embedpool_shared.telemetry.meters import Spread

BEAT_S: Final = 0.5


async def beat(lag_s: Spread, carry_out: Callable[[], None]) -> None:
    """Measure and carry out for ever."""
    now = asyncio.get_running_loop().time
    while True:
        due_at = now() + BEAT_S
        await asyncio.sleep(BEAT_S)
        lag_s.note(max(0.0, now() - due_at))
        carry_out()
