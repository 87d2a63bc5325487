"""One batch, from wherever it is to its end.

    validating ──▶ in_progress ──▶ finalizing ──▶ completed
        │              ├── time is up ──────────▶ expired
        ▼              ▼
      failed       cancelling ──────────────────▶ cancelled

The api makes a batch (validating) and cancels it (cancelling); every other arrow is drawn here.
One whose input or results are gone from the file store comes from anywhere to failed.

Invariants:
- Whatever was killed at whatever point is gone on with: every step can be taken again.
- Nothing is sent for a batch under an epoch that is not the youngest.
"""

from __future__ import annotations

import asyncio
import logging

from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import (
    ENDED,
    Batch,
    BatchField,
    BatchRecord,
    LineProblem,
    Status,
    encode_record,
)
from embedpool_shared.errors import NotFound
from embedpool_shared.file_records import FileRecords
from embedpool_shared.scripts import script
from embedpool_worker.bulk.beginning import MISSING, Beginner
from embedpool_worker.bulk.booking import Booking, Checkpoint, Superseded
from embedpool_worker.bulk.finishing import GOING_ON, Finisher
from embedpool_worker.bulk.flushing import Flusher
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.overseeing import Overseer
from embedpool_worker.bulk.patience import until_it_works
from embedpool_worker.bulk.results import EXPIRED
from embedpool_worker.bulk.standing import Standing
from embedpool_worker.bulk.stream import Stream

log = logging.getLogger(__name__)


class BatchRun:
    """Runs one batch under one epoch."""

    def __init__(self, means: Means, batch_id: str, *, epoch: int) -> None:
        """Prepare; `run` connects."""
        self.line = -1
        """The last line booked when it began and as far as it came; -1: it did not come so far."""
        self._means = means
        self._batch_id = batch_id
        self._epoch = epoch
        self._records = means.line("bulk")
        self._books = means.line("book")
        self._batches = BatchRecords(self._records, means.names)
        self._files = FileRecords(self._records, means.names)
        self._standing = Standing(self._records, means.names)
        self._flusher: Flusher | None = None

    async def run(self) -> None:
        """Return when the batch has ended; raises `Superseded` where another process has it."""
        try:
            batch = await self._read()
            if batch is not None and batch.status is Status.VALIDATING:
                beginner = Beginner(self._means, batches=self._batches, standing=self._standing)
                batch = await beginner.begin(batch.record)
            if batch is not None and batch.status not in ENDED:
                await self._go_on(batch)
        finally:
            if self._flusher is not None:
                self.line = self._flusher.so_far.line
            await self._hang_up()

    async def fail(self, problem: LineProblem) -> None:
        """End the batch for that reason, with what there is of results."""
        try:
            batch = await self._read()
            lane = batch.text(BatchField.LANE) if batch is not None else None
            if batch is not None and lane is not None:
                booking = self._booking(lane)
                so_far = await booking.claim()
                finisher = self._finisher(batch.record, booking)
                await finisher.finish(so_far, Status.FAILED, problems=[problem])
        except Superseded:
            return
        except Exception:
            log.exception("batch_results_lost batch=%s", self._batch_id)
        fields = {BatchField.ERRORS: encode_record([problem])}
        await self._step(Status.FAILED, from_=GOING_ON, fields=fields)
        await self._hang_up()

    async def _hang_up(self) -> None:
        await self._records.close()
        await self._books.close()

    async def _read(self) -> Batch | None:
        return await until_it_works(lambda: self._batches.read(self._batch_id), of=self._batch_id)

    async def _go_on(self, batch: Batch) -> None:
        lane = batch.text(BatchField.LANE)
        if lane is None:  # cancelled before it could begin: there are no lines to speak of
            await self._step(Status.CANCELLED, from_={Status.CANCELLING})
            return
        booking = self._booking(lane)
        so_far = await booking.claim()
        finisher = self._finisher(batch.record, booking)
        try:
            if so_far.line < batch.number(BatchField.TOTAL):
                so_far = await self._stream(batch, lane, booking, so_far)
        except NotFound:
            so_far = self._flusher.so_far if self._flusher else so_far
            await finisher.finish(so_far, Status.FAILED, problems=[MISSING])
            return
        if so_far.cut == EXPIRED:
            await finisher.finish(so_far, Status.EXPIRED)
            return
        status = await self._step(Status.FINALIZING, from_={Status.IN_PROGRESS})
        to = Status.CANCELLED if status is Status.CANCELLING else Status.COMPLETED
        await finisher.finish(so_far, to)

    async def _stream(
        self, batch: Batch, lane: str, booking: Booking, so_far: Checkpoint
    ) -> Checkpoint:
        record, means = batch.record, self._means
        await self._announce(lane)
        now = await until_it_works(self._files.now, of=record.id)
        expires_at = asyncio.get_running_loop().time() + record.expires_at - now
        served = means.lane(lane)
        flusher = self._flusher = Flusher(means, record, booking, so_far, on_booked=served.booked)
        stream = Stream(means, record, served, flusher, expires_at=expires_at)
        overseer = Overseer(
            means,
            record,
            model=batch.text(BatchField.MODEL) or lane,
            batches=self._batches,
            standing=self._standing,
        )
        await until_it_works(lambda: overseer.look(stream, flusher), of=record.id)
        overseeing = asyncio.create_task(overseer.run(stream, flusher))
        try:
            await stream.run()
        finally:
            overseeing.cancel()
            await asyncio.wait([overseeing])
        return flusher.so_far

    async def _announce(self, lane: str) -> None:
        """Others roll its ledger up where this process cannot any more."""
        names = self._means.names
        keys = [names.known_lanes, names.lanes]
        await until_it_works(
            lambda: self._records.run(script("announce"), keys, [lane]), of=self._batch_id
        )

    async def _step(
        self,
        to: Status,
        *,
        from_: frozenset[Status] | set[Status],
        fields: dict[BatchField, bytes] | None = None,
    ) -> Status | None:
        return await until_it_works(
            lambda: self._batches.step(self._batch_id, to, from_=from_, fields=fields),
            of=self._batch_id,
        )

    def _booking(self, lane: str) -> Booking:
        names = self._means.names.lane(lane)
        return Booking(self._books, names, self._batch_id, epoch=self._epoch)

    def _finisher(self, record: BatchRecord, booking: Booking) -> Finisher:
        return Finisher(self._means, record, booking, batches=self._batches, files=self._files)
