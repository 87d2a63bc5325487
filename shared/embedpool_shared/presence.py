"""Says that this process lives, and learns who else does and whether Redis forgot us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import random
from typing import Any, Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script

BEAT_S: Final = 1.5
TTL_S: Final = 4.5

WORKER: Final = "worker:"
API: Final = "api:"
"""What a process id starts with says what it is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one beat saw."""

    was_forgotten: bool  # Redis came back without us: whatever we put there may be gone too
    redis_us: int
    catalog_version: str
    alive: frozenset[str]

    @property
    def workers(self) -> frozenset[str]:
        """The living worker processes."""
        return frozenset(process for process in self.alive if process.startswith(WORKER))


class Presence:
    """Owns the presence line of a process."""

    def __init__(
        self,
        line: Line,
        names: Names,
        process_id: str,
        *,
        on_seen: Callable[[Seen], None],
        on_away: Callable[[], None] = lambda: None,
    ) -> None:
        """Report each beat to `on_seen`, and each one Redis did not answer to `on_away`."""
        self._line = line
        self._names = names
        self._process_id = process_id
        self._on_seen = on_seen
        self._on_away = on_away
        self._was_seen = False
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Beat for ever."""
        failures = 0
        while True:
            try:
                self._on_seen(await self.beat())
                failures = 0
                await asyncio.sleep(BEAT_S)
            except QueueUnavailable:
                self._on_away()
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1

    async def beat(self) -> Seen:
        """Say once that we live; raises `QueueUnavailable`."""
        was_known, redis_us, version, *alive = await self._say(ttl_s=TTL_S)
        # After an outage longer than our presence nobody knows what Redis kept: forgotten, too.
        was_seen, self._was_seen = self._was_seen, True
        return Seen(
            was_forgotten=was_seen and not was_known,
            redis_us=redis_us,
            catalog_version=version.decode(),
            alive=frozenset(process.decode() for process in alive),
        )

    async def leave(self) -> None:
        """Say that we go; if Redis is away, our presence ends by itself."""
        with suppress(QueueUnavailable):
            await self._say(ttl_s=0)

    async def _say(self, *, ttl_s: float) -> Any:
        async with self._turn:
            return await self._line.run(
                script("presence"),
                [self._names.alive, self._names.catalog],
                [self._process_id, int(ttl_s * 1_000)],
            )
