"""Watches over a batch that runs: is it still wanted, may its key go on, is there time left?"""

from __future__ import annotations

import asyncio

from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import ENDED, BatchRecord, Status
from embedpool_shared.errors import EmbedPoolError, QueueUnavailable
from embedpool_worker.bulk.beginning import LOOK_EVERY_S, names_of
from embedpool_worker.bulk.booking import Superseded
from embedpool_worker.bulk.finishing import progress
from embedpool_worker.bulk.flushing import Flusher
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.results import CANCELLED
from embedpool_worker.bulk.standing import Standing
from embedpool_worker.bulk.stream import Stream


class Overseer:
    """Tells the stream of one batch what the world says; uses the lines of `batches` alone."""

    def __init__(
        self,
        means: Means,
        record: BatchRecord,
        *,
        model: str,
        batches: BatchRecords,
        standing: Standing,
    ) -> None:
        """`model` is what the lines name."""
        self._means = means
        self._record = record
        self._model = model
        self._batches = batches
        self._standing = standing

    async def run(self, stream: Stream, flusher: Flusher) -> None:
        """Look again and again, for ever; Redis away is no reason to stop what runs."""
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                stream.keep_time()
                try:
                    await self.look(stream, flusher)
                except QueueUnavailable:
                    continue
        except Exception as bug:  # noqa: BLE001 (nobody else would hear of it)
            stream.stop(bug)

    async def look(self, stream: Stream, flusher: Flusher) -> None:
        """Tell how far the batch is, and learn whether it may go on; raises `QueueUnavailable`."""
        status = await self._batches.note(self._record.id, progress(flusher.so_far))
        if status is None or status in ENDED:
            stream.stop(Superseded("the batch has ended elsewhere"))
        elif status is Status.CANCELLING:
            stream.cut_off(CANCELLED)
        stream.keep_time()
        stream.refuse(await self._refusal())

    async def _refusal(self) -> EmbedPoolError | None:
        try:
            names = names_of(self._means, self._model)
        except EmbedPoolError as error:
            return error  # it is served no more
        return await self._standing.refusal(self._record.key_id, names)
