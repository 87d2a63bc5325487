"""The end of a batch: its parts become files of its owner's, and it says so.

Invariants:
- Whoever is killed on the way and begins again comes to the same files under the same ids.
- Parts are deleted only after what they became is safe and known to be.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from embedpool_shared.batch_records import BatchRecords, Value
from embedpool_shared.batches import (
    FILES_LIVE_S,
    BatchField,
    BatchRecord,
    FileRecord,
    Purpose,
    Status,
)
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.file_records import FileRecords, content_path
from embedpool_worker.bulk.booking import Booking, Checkpoint
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.part_files import Assembled, assemble, delete_parts, part_from
from embedpool_worker.bulk.patience import until_it_works

log = logging.getLogger(__name__)

OUTPUT: Final = "output"
ERROR: Final = "error"
PROMISED_S: Final = 24 * 60 * 60.0
"""How long a result that was never finished stays in the store."""
_ID_BYTES: Final = 12


def result_id(batch_id: str, kind: str) -> str:
    """Name a result of a batch, the same each time it is asked for."""
    name = f"{batch_id}/{kind}".encode()
    return f"file-{blake2b(name, digest_size=_ID_BYTES).hexdigest()}"


def progress(so_far: Checkpoint) -> dict[BatchField, Value]:
    """Say how far a batch is, for whoever looks at it."""
    return {
        BatchField.COMPLETED: so_far.completed,
        BatchField.FAILED: so_far.failed,
        BatchField.TOKENS: so_far.tokens,
        BatchField.COST_PICO_USD: so_far.cost_pico_usd,
    }


class Finisher:
    """Finishes one batch."""

    def __init__(
        self,
        means: Means,
        record: BatchRecord,
        booking: Booking,
        *,
        batches: BatchRecords,
        files: FileRecords,
    ) -> None:
        """Prepare."""
        self._means = means
        self._record = record
        self._booking = booking
        self._batches = batches
        self._files = files

    async def finish(
        self,
        so_far: Checkpoint,
        to: Status,
        *,
        from_: Collection[Status],
        fields: Mapping[BatchField, Value] | None = None,
    ) -> None:
        """Put the results together and bring the batch to its last status."""
        batch_id = self._record.id
        made = _assembled(so_far.assembled)
        if made is None:
            made = await until_it_works(lambda: self._put_together(so_far), of=batch_id)
        await until_it_works(lambda: self._delete_parts(), of=batch_id)  # noqa: PLW0108
        told = {**progress(so_far), **_ids(batch_id, made), **(fields or {})}
        status = await until_it_works(
            lambda: self._batches.step(batch_id, to, from_=from_, fields=told), of=batch_id
        )
        log.info("batch_ended batch=%s status=%s lines=%d", batch_id, status, so_far.line)
        with suppress(QueueUnavailable):
            await self._booking.forget()

    async def _put_together(self, so_far: Checkpoint) -> Assembled:
        batch_id = self._record.id
        ids = [result_id(batch_id, kind) for kind in (OUTPUT, ERROR)]
        for file_id in ids:
            await self._files.promise(file_id, lives_s=PROMISED_S)
        made = await self._means.in_thread(
            assemble,
            self._means.store,
            batch_id,
            list(map(part_from, so_far.parts)),
            out_path=content_path(ids[0]),
            err_path=content_path(ids[1]),
        )
        for kind, size_bytes in zip((OUTPUT, ERROR), made, strict=True):
            if size_bytes:
                await self._add(kind, size_bytes)
        await self._booking.assembled(f"{made.out_bytes}:{made.err_bytes}")
        return made

    async def _add(self, kind: str, size_bytes: int) -> None:
        now = await self._files.now()
        file_id = result_id(self._record.id, kind)
        record = FileRecord(
            id=file_id,
            owner=self._record.owner,
            path=content_path(file_id),
            size_bytes=size_bytes,
            created_at=now,
            expires_at=now + FILES_LIVE_S,
            filename=f"{self._record.id}_{kind}.jsonl",
            purpose=Purpose.BATCH_OUTPUT,
        )
        await self._files.add(record, max_files=None, max_bytes=None)

    async def _delete_parts(self) -> None:
        await self._means.in_thread(delete_parts, self._means.store, self._record.id)


def _assembled(text: str) -> Assembled | None:
    return Assembled(*map(int, text.split(":"))) if text else None


def _ids(batch_id: str, made: Assembled) -> dict[BatchField, Value]:
    ids: dict[BatchField, Value] = {}
    if made.out_bytes:
        ids[BatchField.OUTPUT_FILE_ID] = result_id(batch_id, OUTPUT)
    if made.err_bytes:
        ids[BatchField.ERROR_FILE_ID] = result_id(batch_id, ERROR)
    return ids
