"""One term of leadership: every active batch is seen to by arq's jobs, a unit at a time.

A unit that ends before its batch does puts the next one into the queue, under another id. What got
lost on the way, with a process or with Redis, is put in again by the muster. Ids carry the epoch,
so that whatever a dead leader left behind in arq's books delays nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final, Protocol

from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import ENDED, Batch
from embedpool_shared.errors import QueueUnavailable
from embedpool_worker.bulk.attending import Attendants
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.persevering import see_through
from embedpool_worker.bulk.run import BatchRun

MUSTER_EVERY_S: Final = 30.0
REGRETS_EVERY_S: Final = 1.0
"""So often the cancelled ones are looked for that wait for their turn."""
REGRETS_AT_ONCE: Final = 100


class Jobs(Protocol):
    """The queue of arq's jobs."""

    async def enqueue(self, batch_id: str, *, job_id: str) -> None:
        """Let a batch be seen to, once for each job id; raises `QueueUnavailable`."""

    async def serve(self, attend: Callable[[str], Awaitable[None]]) -> None:
        """Call `attend` with the batch of each job, for ever."""

    async def close(self) -> None:
        """Hang up."""


class Term:
    """Runs all batches under one epoch."""

    def __init__(self, means: Means, jobs: Jobs, *, epoch: int) -> None:
        """Prepare; `run` begins."""
        self._jobs = jobs
        self._epoch = epoch
        self._numbers = count(1)
        self._line = means.line("bulk")
        self._batches = BatchRecords(self._line, means.names)
        self._turn = asyncio.Lock()
        self._attendants: Attendants | None = None
        self._means = means

    async def run(self) -> None:
        """Run what is active until cancelled; that ends every run at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                attendants = self._attendants = Attendants(self._see_to, tasks.create_task)
                self._means = replace(self._means, running=lambda: attendants.running)
                tasks.create_task(self._jobs.serve(self._attend))
                tasks.create_task(self._muster())
                tasks.create_task(self._hurry_cancelled(attendants))
        finally:
            await self._line.close()
            await self._jobs.close()

    async def _see_to(self, batch_id: str) -> None:
        make_run = partial(BatchRun, self._means, batch_id, epoch=self._epoch)
        await see_through(make_run, batch_id)

    async def _attend(self, batch_id: str) -> None:
        """See to a batch for a unit of time; what Redis does not know now, the muster will."""
        with suppress(QueueUnavailable):
            batch = await self._read(batch_id)
            if batch is None or batch.status in ENDED or self._attendants is None:
                return
            created_at = batch.record.created_at
            if await self._attendants.attend(batch_id, created_at=created_at) is False:
                await self._enqueue(batch_id)

    async def _muster(self) -> None:
        while True:
            with suppress(QueueUnavailable):
                async with self._turn:
                    active = await self._batches.active()
                for batch_id in active:
                    if self._attendants is None or not self._attendants.knows(batch_id):
                        await self._enqueue(batch_id)
            await asyncio.sleep(MUSTER_EVERY_S)

    async def _hurry_cancelled(self, attendants: Attendants) -> None:
        while True:
            with suppress(QueueUnavailable):
                async with self._turn:
                    cancelled = await self._batches.cancelled(limit=REGRETS_AT_ONCE)
                for batch_id in cancelled:
                    attendants.hurry(batch_id)
            await asyncio.sleep(REGRETS_EVERY_S)

    async def _enqueue(self, batch_id: str) -> None:
        job_id = f"{batch_id}:{self._epoch}:{next(self._numbers)}"
        await self._jobs.enqueue(batch_id, job_id=job_id)

    async def _read(self, batch_id: str) -> Batch | None:
        async with self._turn:
            return await self._batches.read(batch_id)
