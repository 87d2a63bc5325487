"""Whoever is cut off while a part is booked knows what came of it: no bill twice, none lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from typing_extensions import override

from embedpool_shared.embedding.fitting import Fitted
from embedpool_shared.jobs import JobReply, LedgerRecord, MergeKey
from embedpool_shared.scripts import Script
from embedpool_worker.bulk import flushing
from embedpool_worker.bulk.batch_lines import Entry, entry_of
from embedpool_worker.bulk.booking import Booking
from embedpool_worker.bulk.flushing import Flusher
from embedpool_worker.bulk.line_reader import LineJob
from integration.batches import batches_on, means_of
from integration.one_process import DIMS, MODEL, Counting, Site
from support.bulk_records import batch_record_of

if TYPE_CHECKING:
    from support.valkey import RedisServer

BATCH: Final = batch_record_of(account="key:k")
PAID: Final = 7


class HeldLine(Counting):
    """A line that holds back the booking of a part, or the reply to it."""

    def __init__(self, *more: Any) -> None:
        super().__init__(*more)
        self.holds = "nothing"
        self.is_held, self.goes_on = asyncio.Event(), asyncio.Event()

    @override
    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], **patience: float
    ) -> Any:
        if script.name == "book" and self.holds == "the question":
            await self._held()
        reply = await super().run(script, keys, arguments, **patience)
        if script.name == "book" and self.holds == "the answer":
            await self._held()
        return reply

    async def _held(self) -> None:
        self.is_held.set()
        await self.goes_on.wait()


@dataclass
class Case:
    """A part on its way into the books, held back."""

    site: Site
    line: HeldLine
    flusher: Flusher
    entries: list[Entry]
    flushing: asyncio.Task[None]
    rows: list[int]

    async def overtaken(self) -> None:
        """Let somebody else take the batch over."""
        await Booking(self.site.line("heir"), self.site.lane, BATCH.id, epoch=2).claim()

    async def cut_off(self, *, is_answered: bool = True) -> None:
        """Cut the flusher off, and let Redis be asked, or answer, only then."""
        self.flushing.cancel()
        await asyncio.sleep(0)
        if is_answered:
            self.line.goes_on.set()
        await asyncio.wait([self.flushing])
        assert self.flushing.cancelled()

    async def paid(self) -> int:
        return sum(record.paid for record in await self.site.ledger())


def answered_entry() -> Entry:
    job = LineJob(1, "a", Fitted(MergeKey(MODEL), ["x"], None), True, MODEL, 1, 10, MODEL, 0)
    entry = entry_of(job, begins_at=0)
    entry.line.reply = JobReply(1, b"\0" * 4 * DIMS, DIMS, PAID)
    entry.line.records.append(LedgerRecord("b", 1, "key:k", MODEL, "fake", PAID, PAID, 0, 0))
    return entry


@asynccontextmanager
async def held(valkey: RedisServer, folder: Path, what: str) -> AsyncIterator[Case]:
    with ThreadPoolExecutor(1) as threads:
        async with Site(valkey.url) as site:
            rows: list[int] = []
            means = means_of(
                batches_on(site, folder), threads, lambda _: NotImplemented,
                rows_ended=lambda _, ended: rows.append(ended),
            )  # fmt: skip
            line = site.line_of(HeldLine, "book")
            booking = Booking(line, site.lane, BATCH.id, epoch=1)
            begun = await booking.claim()
            flusher = Flusher(means, BATCH, booking, begun, on_booked=lambda: None)
            line.holds, entries = what, [answered_entry()]
            flushing = asyncio.create_task(flusher.flush(entries))
            await line.is_held.wait()
            yield Case(site, line, flusher, entries, flushing, rows)


async def test_a_part_that_was_refused_after_all_is_waste(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with held(valkey, tmp_path, "the question") as case:
        await case.overtaken()

        await case.cut_off()

        assert case.flusher.unbooked == case.entries
        assert (await case.paid(), case.flusher.so_far.line, case.rows) == (0, 0, [])


@pytest.mark.parametrize("what", ["the question", "the answer"])
async def test_a_part_that_was_booked_after_all_is_no_waste(
    valkey: RedisServer, tmp_path: Path, what: str
) -> None:
    async with held(valkey, tmp_path, what) as case:
        if what == "the answer":
            await case.overtaken()

        await case.cut_off()

        assert case.flusher.unbooked == ()
        assert (await case.paid(), case.flusher.so_far.line, case.rows) == (PAID, 1, [1])


async def test_a_part_that_nobody_knows_of_is_not_counted_twice(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "ANSWER_S", 0.05)
    async with held(valkey, tmp_path, "the answer") as case:
        await case.cut_off(is_answered=False)

        assert case.flusher.unbooked == ()
        assert (await case.paid(), case.rows) == (PAID, [])
