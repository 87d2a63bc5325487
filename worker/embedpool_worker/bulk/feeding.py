"""Feeds a batch's lines to their lane and hears how they end.

Invariants:
- A line ends once: answered, refused, or cut off; what its tries cost is kept with it.
- What only says that nobody can answer now is tried again, later and later.
- Once the run is over nothing changes a line any more; what was paid for it is booked as waste.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from random import random
from typing import Final, Protocol

from embedpool_shared.batches import BatchRecord
from embedpool_shared.errors import EmbedPoolError, InternalError
from embedpool_shared.jobs import Job, JobReply, LedgerRecord, MergeKey, error_from
from embedpool_worker.bulk.again import is_failure, pause_before_try
from embedpool_worker.bulk.batch_lines import BatchLine, Entry
from embedpool_worker.bulk.line_reader import LineJob
from embedpool_worker.bulk.sums import bill_of, of_an_earlier_try
from embedpool_worker.bulk.window import Window
from embedpool_worker.endings import wasted
from embedpool_worker.held import HeldJob, HeldPack, direct_pack

TRY_S: Final = 600.0
"""How long a line waits for one answer before it is thought over."""


class DirectLane(Protocol):
    """A lane of this process that takes work which never was in Redis."""

    def feed(self, pack: HeldPack) -> None:
        """Send a direct pack on its way."""

    async def has_room(self) -> None:
        """Wait until there is room for another piece."""

    def withdraw(self) -> None:
        """End the cancelled jobs that still wait."""

    def booked(self) -> None:
        """The lane's ledger has more to roll up."""

    def waste(self, record: LedgerRecord) -> None:
        """Book what was paid for a job that nobody books."""


class Feeder:
    """Feeds the lines of one batch."""

    def __init__(
        self,
        lane: DirectLane,
        record: BatchRecord,
        window: Window[BatchLine],
        *,
        expires_at: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Tell `on_change` of every line that ends; `expires_at` is on the loop's clock."""
        self.refusal: EmbedPoolError | None = None
        """Why the batch's key may send nothing more, if so."""
        self.on_change = on_change
        self.dims = 0
        """The length of the vectors, once one was seen."""
        self._lane = lane
        self._record = record
        self._bill = bill_of(record)
        self._window = window
        self._expires_at = expires_at
        self._open: dict[int, tuple[Entry, HeldPack]] = {}
        self._cut = ""
        self._is_over = False

    @property
    def sends(self) -> bool:
        """Whether lines are still sent."""
        return not (self._cut or self.refusal)

    def feed(self, entries: Sequence[Entry]) -> None:
        """Send lines on their way, in one pack."""
        if not entries:
            return
        fed_at = _now()
        # Not less where the batch ends earlier: it is cut off then, but its calls come back, which
        # is kept; a deadline would end them, and that counts against their key.
        jobs = [self._job(entry, TRY_S) for entry in entries]
        pack = direct_pack(self._record.id, jobs, fed_at=fed_at, home=self._end)
        for entry in entries:
            entry.tries += 1
            self._open[entry.number] = (entry, pack)
        self._lane.feed(pack)

    def cut_off(self, why: str) -> None:
        """Send nothing more: what waits ends now, what is on its way is still heard."""
        self._cut = why
        self._withdraw()

    def hang_up(self) -> None:
        """Wait no longer for what is on its way."""
        for entry, pack in list(self._open.values()):
            job = pack.open.pop(entry.number, None)
            if job is not None:
                job.has_ended = True
            self._end_unsent(entry)
        self._open.clear()

    def end_resting(self, entries: Iterable[Entry]) -> None:
        """These were to be tried again, but nothing more is sent."""
        for entry in entries:
            self._end_unsent(entry)

    def mark_unsent(self, entry: Entry) -> None:
        """Say with the line why it is not sent."""
        entry.line.cut, entry.line.error = self._cut, None if self._cut else self.refusal

    def abandon(self, entries: Iterable[Entry]) -> None:
        """End the run: `entries` were not booked, and will be redone; what they cost is waste."""
        self._is_over = True
        self._withdraw()
        for entry in entries:
            for record in entry.line.records:
                self._waste(record)

    @property
    def under_way(self) -> int:
        """How many lines are waiting for an answer."""
        return len(self._open)

    def _withdraw(self) -> None:
        for pack in {id(pack): pack for _, pack in self._open.values()}.values():
            for job in pack.open.values():
                job.is_cancelled = True
        self._lane.withdraw()

    def _job(self, entry: Entry, budget_s: float) -> tuple[Job, MergeKey]:
        source = entry.line.source
        if not isinstance(source, LineJob):
            raise InternalError("a line without a job cannot be fed")
        fitted = source.fitted
        job = Job(
            number=entry.number,
            merge=0,
            inputs=fitted.inputs,
            budget_ms=int(budget_s * 1_000),
            size_bytes=source.size_bytes,
            tokens=sum(fitted.counts) if fitted.counts else 0,
            account=self._record.account,
            price_per_token_pico_usd=source.price_per_token_pico_usd,
            bill=self._bill,
            cache=source.cache,
        )
        return job, fitted.merge

    def _end(self, job: HeldJob, reply: JobReply, record: LedgerRecord) -> None:
        found = self._open.get(job.job.number)
        if self._is_over or found is None or found[1] is not job.pack:
            self._waste(record)
            return
        entry, _ = self._open.pop(job.job.number)
        if reply.error is None:
            entry.line.reply = reply
            self.dims = reply.dims
        elif self._is_put_off(entry, reply, record):
            return
        entry.line.records.append(record)
        self._window.end(entry, now=_now())
        self.on_change()

    def _is_put_off(self, entry: Entry, reply: JobReply, record: LedgerRecord) -> bool:
        """Decide what an error means to its line; True where the line is tried again."""
        error = reply.error
        assert error is not None  # noqa: S101 (only errors come here)
        entry.provider_failures += is_failure(error)
        pause_s = pause_before_try(
            error, tries=entry.tries, provider_failures=entry.provider_failures, draw=random()
        )
        if pause_s is None:
            entry.line.error = error_from(error)
            return False
        if self._cut:
            entry.line.cut = self._cut
            return False
        if record.paid:
            entry.line.records.append(of_an_earlier_try(record))
        self._window.rest(entry, until_at=min(_now() + pause_s, self._expires_at))
        self.on_change()
        return True

    def _end_unsent(self, entry: Entry) -> None:
        self.mark_unsent(entry)
        self._window.end(entry, now=_now())
        self.on_change()

    def _waste(self, record: LedgerRecord) -> None:
        if record.paid:
            self._lane.waste(wasted(record))


def _now() -> float:
    return asyncio.get_running_loop().time()
