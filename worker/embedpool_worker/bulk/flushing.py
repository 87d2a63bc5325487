"""Makes a batch's results safe, part by part: written and synced, then booked.

Invariants:
- A part is booked only after its files outlive any crash; booking it is the checkpoint.
- A store or a Redis that is away delays a part, whatever it takes; nothing of it is lost.
- Whoever is cut off while a part is booked still hears whether it was.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from embedpool_shared.batches import BatchRecord
from embedpool_shared.file_store import FileStore
from embedpool_worker.bulk.batch_lines import BatchLine, Entry, written
from embedpool_worker.bulk.booking import Booked, Booking, Checkpoint, NotBooked
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.part_files import Part, write_part
from embedpool_worker.bulk.patience import until_it_works
from embedpool_worker.bulk.sums import summed

ANSWER_S: Final = 2.0
"""How long whoever is cut off waits to hear what became of a part."""
TURN_S: Final = 0.0005
"""After so long a thread lets others have the interpreter, who else get it every 5 ms only."""


class Flusher:
    """Flushes the parts of one batch, one after the other."""

    def __init__(
        self,
        means: Means,
        record: BatchRecord,
        booking: Booking,
        so_far: Checkpoint,
        *,
        on_booked: Callable[[], None],
    ) -> None:
        """Go on from `so_far`; `on_booked` learns that the ledger has more."""
        self.so_far = so_far
        self.unbooked: Sequence[Entry] = ()
        """Of the part on its way, the lines that are certainly not booked."""
        self._means = means
        self._record = record
        self._booking = booking
        self._on_booked = on_booked

    async def flush(self, entries: Sequence[Entry]) -> None:
        """Make the next lines safe; raises `NotBooked` where they are somebody else's affair."""
        self.unbooked = entries
        part = await until_it_works(lambda: self._made_safe(entries), of=self._record.id)
        booking = asyncio.create_task(self._booking.book(part))
        try:
            await asyncio.shield(booking)
        except asyncio.CancelledError:
            # Booked or waste? It was on its way to Redis, and only the answer tells.
            await asyncio.wait([booking], timeout=ANSWER_S)
            raise
        finally:
            self._conclude(part, booking)

    def _conclude(self, part: Booked, booking: asyncio.Task[None]) -> None:
        """Take note of what became of a part; where nobody knows, it is not counted twice."""
        if not booking.done() or booking.cancelled():
            booking.cancel()
            self.unbooked = ()
            return
        if error := booking.exception():
            self.unbooked = self.unbooked if isinstance(error, NotBooked) else ()
            return
        entries, self.unbooked = self.unbooked, ()
        self.so_far = part.after(self.so_far)
        self._on_booked()
        for outcome, rows in Counter(entry.line.outcome for entry in entries).items():
            self._means.rows_ended(outcome, rows)

    async def _made_safe(self, entries: Sequence[Entry]) -> Booked:
        return await self._means.in_thread(
            made_safe, self._means.store, self._record, entries, self.so_far
        )


def made_safe(
    store: FileStore, record: BatchRecord, entries: Sequence[Entry], so_far: Checkpoint
) -> Booked:
    """Write the lines that follow `so_far`, and say what is to be booked of them; blocks."""
    lines = [entry.line for entry in entries]
    part = write_lines(store, record.id, lines, epoch=so_far.claim, from_line=so_far.line + 1)
    records = (one for line in lines for one in line.records)
    answered = sum(line.is_answered for line in lines)
    return Booked(
        before=so_far.line,
        last=entries[-1].number,
        next_byte=entries[-1].next_byte,
        part=part.text,
        cut=next((line.cut for line in lines if line.cut), so_far.cut),
        completed=answered,
        failed=len(lines) - answered,
        records=summed(records, batch=record, number=so_far.line + 1),
    )


def write_lines(
    store: FileStore, batch_id: str, lines: Sequence[BatchLine], *, epoch: int, from_line: int
) -> Part:
    """Write the files of a part; blocks, but lets the loop have its turn between lines."""
    out: list[bytes] = []
    err: list[bytes] = []
    until_at = time.perf_counter() + TURN_S
    for line in lines:
        (out if line.is_answered else err).append(written(batch_id, line))
        if time.perf_counter() > until_at:
            time.sleep(0)
            until_at = time.perf_counter() + TURN_S
    return write_part(store, batch_id, epoch=epoch, from_line=from_line, out=out, err=err)
