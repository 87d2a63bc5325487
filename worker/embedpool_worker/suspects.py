"""Tries jobs that may be ending workers one at a time, and gives up on the one that does.

A worker's death counts against everything it held. Once a job was delivered too often, its own
tries are counted in Redis before each begins, and its neighbours wait: only the culprit runs out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from embedpool_shared.errors import InternalError, QueueUnavailable
from embedpool_worker.handover import HandBack
from embedpool_worker.held import HeldJob, HeldPack
from embedpool_worker.leases import Leases

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3


class Suspects:
    """The suspects of one lane, in this worker."""

    def __init__(
        self,
        hand_back: HandBack,
        leases: Leases,
        *,
        admit: Callable[[HeldPack], None],
        fail: Callable[[list[HeldJob], InternalError], None],
        on_buried: Callable[[], None] = lambda: None,
    ) -> None:
        """`admit` queues a pack like any other; `fail` ends jobs with an error."""
        self._hand_back = hand_back
        self._leases = leases
        self._admit = admit
        self._fail = fail
        self._on_buried = on_buried
        self._turn = asyncio.Lock()

    async def attend(self, pack: HeldPack) -> None:
        """Try the single job of `pack` once nobody else is being tried, or bury it."""
        async with self._turn:
            for job in list(pack.open.values()):
                try:
                    tries = await self._hand_back.begin(job)
                except QueueUnavailable:
                    # Unrenewed, the entry comes back to whoever can reach Redis.
                    self._leases.release(pack)
                    return
                if tries > MAX_TRIES:
                    await self._bury(job)
                else:
                    self._admit(pack)
            await self._leases.until_released(pack)

    async def _bury(self, job: HeldJob) -> None:
        log.error("dead_letter pack=%s number=%s", job.pack.pack_id, job.job.number)
        self._on_buried()
        with suppress(QueueUnavailable):
            await self._hand_back.bury(job)
        self._fail([job], InternalError("this request ended several workers and was given up"))
