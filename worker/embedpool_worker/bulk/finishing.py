"""The end of a batch: its parts become files of its owner's, and it says so.

Invariants:
- Whoever is killed on the way and begins again comes to the same files under the same ids.
- Parts are deleted only after what they became is safe and known to be.
- A batch whose parts the store has lost has failed: its files have what is left, its errors say
  what is not in them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import pairwise
from math import inf
from random import random
from typing import Final, NamedTuple

from embedpool_shared.batch_records import BatchRecords, Value
from embedpool_shared.batches import (
    ENDED,
    FILES_LIVE_S,
    BatchField,
    BatchRecord,
    FileRecord,
    LineProblem,
    Purpose,
    Status,
    encode_record,
    line_problems,
)
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.file_records import FileRecords, content_path
from embedpool_worker.bulk.booking import Booking, Checkpoint
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.part_files import (
    OUT,
    Assembled,
    Part,
    PartFile,
    PartsLost,
    assemble,
    delete_parts,
    lost_files,
    part_from,
)
from embedpool_worker.bulk.patience import pause_s, until_it_works

log = logging.getLogger(__name__)

GOING_ON: Final = frozenset(Status) - ENDED
LOST_AFTER_S: Final = 60.0
"""For so long a part may be missing from a store that is there: caches of network disks lag."""
MAX_PROBLEMS: Final = 100
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


class Results(NamedTuple):
    """What became of a batch's parts."""

    made: Assembled
    problems: list[LineProblem]  # what is not in the files

    @property
    def text(self) -> str:
        """What is booked of them."""
        return (
            f"{self.made.out_bytes}:{self.made.err_bytes}:{encode_record(self.problems).decode()}"
        )


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
        self, so_far: Checkpoint, to: Status, *, problems: Sequence[LineProblem] = ()
    ) -> None:
        """Put the results together and bring the batch to its last status, or to failed."""
        batch_id = self._record.id
        found = _results(so_far.assembled)
        if found is None:
            found = await self._results(so_far)
        await until_it_works(lambda: self._delete_parts(), of=batch_id)  # noqa: PLW0108
        told = {**progress(so_far), **_ids(batch_id, found.made)}
        if listed := [*problems, *found.problems][:MAX_PROBLEMS]:
            to, told[BatchField.ERRORS] = Status.FAILED, encode_record(listed)
        status = await until_it_works(
            lambda: self._batches.step(batch_id, to, from_=GOING_ON, fields=told), of=batch_id
        )
        log.info("batch_ended batch=%s status=%s lines=%d", batch_id, status, so_far.line)
        with suppress(QueueUnavailable):
            await self._booking.forget()

    async def _results(self, so_far: Checkpoint) -> Results:
        """Put the parts together; those that the store does not show for a while are left out."""
        failures, lost, give_up_at = 0, list[PartFile](), inf
        while True:
            try:
                return await self._put_together(so_far, lost)
            except PartsLost as missing:
                log.warning("batch_results_missing batch=%s reason=%s", self._record.id, missing)
            give_up_at = min(give_up_at, _now() + LOST_AFTER_S)  # not while the store was away
            await asyncio.sleep(pause_s(failures, draw=random()))
            failures += 1
            if _now() >= give_up_at:
                lost = await self._lost(so_far)

    async def _put_together(self, so_far: Checkpoint, lost: Collection[PartFile]) -> Results:
        return await until_it_works(lambda: self._assemble(so_far, lost), of=self._record.id)

    async def _lost(self, so_far: Checkpoint) -> list[PartFile]:
        means, parts = self._means, _parts(so_far)
        return await until_it_works(
            lambda: means.in_thread(lost_files, means.store, self._record.id, parts),
            of=self._record.id,
        )

    async def _assemble(self, so_far: Checkpoint, lost: Collection[PartFile]) -> Results:
        batch_id = self._record.id
        ids = [result_id(batch_id, kind) for kind in (OUTPUT, ERROR)]
        for file_id in ids:
            await self._files.promise(file_id, lives_s=PROMISED_S)
        made = await self._means.in_thread(
            assemble,
            self._means.store,
            batch_id,
            _parts(so_far),
            out_path=content_path(ids[0]),
            err_path=content_path(ids[1]),
            without=lost,
        )
        for kind, size_bytes in zip((OUTPUT, ERROR), made, strict=True):
            if size_bytes:
                await self._add(kind, size_bytes)
        results = Results(made, list(_problems(so_far, lost))[:MAX_PROBLEMS])
        await self._booking.assembled(results.text)
        return results

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


def _parts(so_far: Checkpoint) -> list[Part]:
    return list(map(part_from, so_far.parts))


def _problems(so_far: Checkpoint, lost: Collection[PartFile]) -> Iterator[LineProblem]:
    """Say of which lines the results are gone."""
    begins = sorted(part.from_line for part in _parts(so_far))
    ends = {first: after - 1 for first, after in pairwise([*begins, so_far.line + 1])}
    for part, end in lost:
        what = "answers" if end == OUT else "errors"
        yield LineProblem(
            code="results_missing",
            message=f"The {what} of the lines {part.from_line} to {ends[part.from_line]} are gone "
            "from the file store.",
            line=part.from_line,
        )


def _results(text: str) -> Results | None:
    if not text:
        return None
    out_bytes, err_bytes, problems, *_ = [*text.split(":", 2), "[]"]
    return Results(Assembled(int(out_bytes), int(err_bytes)), line_problems(problems.encode()))


def _ids(batch_id: str, made: Assembled) -> dict[BatchField, Value]:
    ids: dict[BatchField, Value] = {}
    if made.out_bytes:
        ids[BatchField.OUTPUT_FILE_ID] = result_id(batch_id, OUTPUT)
    if made.err_bytes:
        ids[BatchField.ERROR_FILE_ID] = result_id(batch_id, ERROR)
    return ids


def _now() -> float:
    return asyncio.get_running_loop().time()
