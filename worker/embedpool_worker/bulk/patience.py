"""Tries again what only the world can mend: the file store or Redis is away, the disk is full."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import random
from typing import Final, TypeVar

from embedpool_shared.errors import QueueUnavailable, StoreUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 30.0

T = TypeVar("T")


async def until_it_works(what: Callable[[], Awaitable[T]], *, of: str) -> T:
    """Await `what()` until neither the file store nor Redis is away; anything else it raises."""
    failures = 0
    while True:
        try:
            return await what()
        except (StoreUnavailable, QueueUnavailable) as away:
            log.warning("batch_waits batch=%s error=%s reason=%s", of, type(away).__name__, away)
        await asyncio.sleep(pause_s(failures, draw=random()))
        failures += 1


def pause_s(failures: int, *, draw: float) -> float:
    """Pause after so many failures in a row: doubling, bounded, spread by `draw` in [0, 1)."""
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(failures, 10))) * (0.5 + draw / 2)
