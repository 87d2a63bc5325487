"""Shares learned caps between workers: one hash in Redis, written when something is learned.

Invariants:
- What this worker learned holds here at once, whether Redis is there or not.
- What Redis forgot is forgotten everywhere; it costs one refused call to learn it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import random
from typing import Any, Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script
from embedpool_worker.learned_caps import (
    GUESS_DOUBLES_AFTER_S,
    KEPT_FOR_S,
    CapName,
    Learned,
    LearnedCaps,
    cap_name,
)

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 600.0
"""How often to look for what became of old guesses and numbers."""


class SharedCaps:
    """Owns the caps line of a worker."""

    def __init__(
        self, line: Line, names: Names, learned: LearnedCaps, *, on_change: Callable[[], None]
    ) -> None:
        """Keep `learned` in step with Redis; tell `on_change` when the catalogue is to say more."""
        self._line = line
        self._names = names
        self._learned = learned
        self._on_change = on_change
        self._version = learned.version
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        learned.on_learned = self._wake.set

    async def run(self) -> None:
        """Share for ever, beginning with what others know."""
        failures = 0
        while True:
            try:
                await self.share()
                failures = 0
            except QueueUnavailable:
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1
                continue
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def share(self) -> None:
        """Tell the others what is new, and learn what they know; raises `QueueUnavailable`."""
        async with self._turn:
            self._wake.clear()
            telling = dict(self._learned.unshared)
            now = asyncio.get_running_loop().time()
            known = await self._line.run(
                script("learn"), [self._names.caps], _arguments(telling, now=now)
            )
            now = asyncio.get_running_loop().time()
            for name, learned in telling.items():
                if self._learned.unshared.get(name) == learned:
                    del self._learned.unshared[name]
            self._learned.know_only(_read(known, now=now))
        if self._learned.version != self._version:
            self._version = self._learned.version
            self._on_change()


def _arguments(telling: dict[CapName, Learned], *, now: float) -> list[Any]:
    arguments: list[Any] = [int(KEPT_FOR_S * 1_000), int(GUESS_DOUBLES_AFTER_S * 1_000)]
    for name, learned in telling.items():
        arguments += [str(name), learned.number, max(0, int((now - learned.at) * 1_000))]
    return arguments


def _read(known: Sequence[Any], *, now: float) -> dict[CapName, Learned]:
    shared = {}
    for written, number, age_ms in zip(known[::3], known[1::3], known[2::3], strict=True):
        try:
            shared[cap_name(written.decode())] = Learned(int(number), now - int(age_ms) / 1_000)
        except ValueError:
            log.warning("cap_unreadable name=%s", written.decode(errors="replace"))
    return shared
