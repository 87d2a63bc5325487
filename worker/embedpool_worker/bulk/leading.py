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

LEASE_S: Final = 6.0
ASK_EVERY_S: Final = 2.0
PATIENCE_S: Final = 1.5
"""For one answer: three questions fit into a lease."""

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
                await self._ask()
                await asyncio.sleep(ASK_EVERY_S)
        finally:
            await self._lose()

    async def leave(self) -> None:
        """Give the lease back after `run` has ended; where Redis is away, it lapses."""
        with suppress(QueueUnavailable):
            await self._say(lease_s=0.0)

    async def _ask(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        try:
            epoch = await self._say(lease_s=LEASE_S if self._may_lead() else 0.0)
        except QueueUnavailable:
            if asyncio.get_running_loop().time() + ASK_EVERY_S < self._until_at:
                return
            epoch = 0
        else:
            self._until_at = asked_at + LEASE_S
        if epoch != self._epoch:
            await self._lose()
        if epoch and (self._work is None or self._work.done()):
            self._epoch = epoch
            log.info("bulk_leading epoch=%d", epoch)
            self._work = asyncio.create_task(self._lead(epoch))
            self._work.add_done_callback(_tell)

    async def _say(self, *, lease_s: float) -> int:
        names = [self._names.bulk_lease, self._names.active_batches]
        return int(
            await self._line.run(
                script("lead"), names, [self._owner, int(lease_s * 1_000)], patience_s=PATIENCE_S
            )
        )

    async def _lose(self) -> None:
        work, self._work, self._epoch = self._work, None, 0
        if work is not None:
            work.cancel()
            await asyncio.wait([work])


def _tell(work: asyncio.Task[None]) -> None:
    """A leader that fails is a bug, but the process has other work: it is asked again."""
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("bulk_leader_failed", exc_info=error)
