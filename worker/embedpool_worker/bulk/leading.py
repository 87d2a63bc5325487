"""Which worker process runs the batches: one at a time, by a lease that nobody has while none is.

Invariants:
- Whoever leads has an epoch of its own; what an earlier leader still writes is refused by it.
- A lease that lapsed on our own clock is lost, whatever Redis would say: its work ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script

log = logging.getLogger(__name__)

LEASE_S: Final = 4.0
RENEW_EVERY_S: Final = 1.0
ASK_EVERY_S: Final = 2.0
"""While nobody leads, or another one does; but when its lease lapses, at once."""
LAPSE_GRAIN_S: Final = 0.01
PATIENCE_S: Final = 1.5
"""For one answer: several questions fit into a lease."""

Lead = Callable[[int], Coroutine[Any, Any, None]]
"""Runs the batches under an epoch until it is cancelled."""


class Leading:
    """Owns a worker process' line for the lease of batches."""

    def __init__(
        self,
        line: Line,
        names: Names,
        lead: Lead,
        *,
        worker_id: str,
        may_lead: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run `lead(epoch)` while the lease is ours; it is given back unless `may_lead`."""
        self._may_lead = may_lead
        self._line = line
        self._names = names
        self._lead = lead
        # A process that came after one of the same name has none of its work.
        self._owner = f"{worker_id}:{secrets.token_hex(4)}"
        self._epoch = 0
        self._until_at = 0.0
        self._work: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Ask for ever."""
        try:
            while True:
                pause_s = await self._ask()
                await asyncio.sleep(pause_s)
        finally:
            await self._lose()

    async def leave(self) -> None:
        """Give the lease back after `run` has ended; where Redis is away, it lapses."""
        with suppress(QueueUnavailable):
            await self._say(lease_s=0.0)

    async def _ask(self) -> float:
        """Take, keep or lose the lease; returns after how many seconds to ask again."""
        asked_at = _now()
        if self._epoch and asked_at >= self._until_at:
            await self._lose()
        left_s = self._until_at - asked_at if self._epoch else PATIENCE_S
        try:
            epoch, held_s = await self._say(
                lease_s=LEASE_S if self._may_lead() else 0.0, patience_s=min(PATIENCE_S, left_s)
            )
        except QueueUnavailable:
            if _now() + RENEW_EVERY_S < self._until_at:
                return RENEW_EVERY_S
            await self._lose()
            return ASK_EVERY_S
        self._until_at = asked_at + LEASE_S
        if epoch != self._epoch:
            await self._lose()
        if epoch:
            self._go_on(epoch)
            return RENEW_EVERY_S
        return min(ASK_EVERY_S, held_s + LAPSE_GRAIN_S) if held_s else ASK_EVERY_S

    def _go_on(self, epoch: int) -> None:
        """Lead under this epoch, unless we do."""
        if self._work is None or self._work.done():
            self._epoch = epoch
            log.info("bulk_leading epoch=%d", epoch)
            self._work = asyncio.create_task(self._lead(epoch))
            self._work.add_done_callback(_tell)

    async def _say(self, *, lease_s: float, patience_s: float = PATIENCE_S) -> tuple[int, float]:
        """Ask for the lease: the epoch under which it is ours, or for how long another's."""
        names = [self._names.bulk_lease, self._names.active_batches]
        arguments = [self._owner, int(lease_s * 1_000)]
        epoch, held_ms = await self._line.run(
            script("lead"), names, arguments, patience_s=patience_s
        )
        return int(epoch), held_ms / 1_000

    async def _lose(self) -> None:
        work, self._work, self._epoch = self._work, None, 0
        if work is not None:
            work.cancel()
            await asyncio.wait([work])


def _tell(work: asyncio.Task[None]) -> None:
    """A leader that fails is a bug, but the process has other work: it is asked again."""
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("bulk_leader_failed", exc_info=error)


def _now() -> float:
    return asyncio.get_running_loop().time()
