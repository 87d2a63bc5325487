"""Puts jobs into a lane: all of one tick, and all that gather during a round trip, in one pack.

Invariants:
- A pack keeps its id for ever, so repeating its enqueue after a broken connection changes nothing.
- Redis away: jobs already posted stay and are repeated; nothing new is taken.
- A job whose caller has gone takes its mark to Redis, and is never posted if it has not left yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any, Final

from embedpool_api.posted import PostedJob, PostedPack
from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import EmbedPoolError, Overloaded, QueueUnavailable
from embedpool_shared.jobs import Job, LaneClass, LedgerRecord, MergeKey, Pack, encode
from embedpool_shared.names import GROUP, LaneNames
from embedpool_shared.redis import Line, RedisRefused
from embedpool_shared.scripts import script
from embedpool_shared.sealing import job_place
from embedpool_shared.serials import serials

MAX_PACK_JOBS: Final = 64
MAX_PACK_ITEMS: Final = 512
MAX_PACK_BYTES: Final = 1024 * 1024
"""A pack is leased by one worker; smaller ones let several share a burst."""
PK_GRACE_S: Final = 60.0
INBOX_TTL_MS: Final = 120_000
MAX_RETRY_AFTER_S: Final = 120.0
QUICK_PATIENCE_S: Final = 2.0

_pack_ids: Final = serials(digits=8)


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much may wait in one lane."""

    max_items: int
    max_bytes: int


class Outbox:
    """Owns one lane's enqueue line."""

    def __init__(
        self,
        line: Line,
        names: LaneNames,
        *,
        api_id: str,
        bounds: QueueBounds,
        seal: Callable[[bytes, str], bytes],
        on_created: Callable[[], None],
    ) -> None:
        """Report a lane that Redis did not have before to `on_created`.

        `seal(credential, place)` encrypts a caller's own provider key for one job alone.
        """
        self.packs: dict[str, PostedPack] = {}
        self.is_away = False
        self._line = line
        self._names = names
        self._places = {c: (names.stream(c), names.depth, names.inbox(api_id)) for c in LaneClass}
        self._api_id = api_id
        self._bounds = bounds
        self._seal = seal
        self._on_created = on_created
        self._new: dict[LaneClass, list[PostedJob]] = {c: [] for c in LaneClass}
        self._leaving: list[PostedPack] = []
        self._marked: set[PostedPack] = set()
        self._wake = asyncio.Event()

    def post(self, posted: PostedJob, lane_class: LaneClass) -> None:
        """Send this job with the next pack."""
        self._new[lane_class].append(posted)
        self._wake.set()

    def repeat_all(self) -> None:
        """Enqueue every unanswered pack again; Redis may have lost some, the pack id decides."""
        leaving = {pack.pack_id for pack in self._leaving}
        self._leaving += [pack for pack in self.packs.values() if pack.pack_id not in leaving]
        self._wake.set()

    def abandon(self, posted: PostedJob) -> None:
        """Nobody waits for this job any more: take its unsent work away."""
        pack = posted.pack
        if pack is None or pack.open.pop(posted.job.number, None) is None:
            return
        pack.cancelled.append(posted)
        self._marked.add(pack)
        self._wake.set()

    async def run(self) -> None:
        """Post and mark for ever."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._send_all()
                failures, self.is_away = 0, False
            except QueueUnavailable:
                self.is_away = True
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1
                self.repeat_all()

    async def _send_all(self) -> None:
        for lane_class, new in self._new.items():
            if new:
                self._new[lane_class] = []
                self._leaving += self._packed(new, lane_class)
        refusal: RedisRefused | None = None
        while self._leaving:
            try:
                await self._enqueue(self._leaving[0])
            except RedisRefused as refused:
                refusal = refused  # no reason to keep those behind it waiting
            self._leaving.pop(0)
        if refusal:
            raise refusal
        while self._marked:
            await self._cancel(self._marked.pop())

    def _packed(self, new: list[PostedJob], lane_class: LaneClass) -> list[PostedPack]:
        """Group jobs into packs of bounded size, in order; abandoned ones never leave."""
        packs: list[PostedPack] = []
        now = asyncio.get_running_loop().time()
        for posted in new:
            if posted.answer.done.done():
                continue
            job = posted.job
            if not packs or not _has_room(packs[-1], job):
                packs.append(PostedPack(next(_pack_ids), lane_class, 0, 0, 0, 0, 0.0))
            pack = packs[-1]
            job.number = pack.jobs
            pack.open[job.number] = posted
            pack.jobs += 1
            pack.items += len(job.inputs)
            pack.size_bytes += job.size_bytes
            pack.tokens += job.tokens
            pack.budget_s = max(pack.budget_s, posted.answer.give_up_at - now)
            posted.pack = pack
        for pack in packs:
            self.packs[pack.pack_id] = pack
        return packs

    async def _enqueue(self, pack: PostedPack) -> None:
        if not pack.open:
            return
        try:
            verdict, created, waiting, rate = await self._run_enqueue(pack)
        except RedisRefused:
            # It answered, so this try put nothing there: out of memory, read-only, no permission.
            if not (pack.is_accepted or pack.may_be_there):
                self._refuse(pack, queue_unavailable("The queue cannot take requests now"))
            raise
        except QueueUnavailable:
            pack.may_be_there = True
            raise
        if verdict == -1:
            self._refuse(pack, _overloaded(waiting, rate))
            return
        pack.is_accepted = True
        if created:
            self._on_created()

    async def _run_enqueue(self, pack: PostedPack) -> Any:
        pack.was_sent = True
        is_thin = len(pack.open) < pack.jobs
        if is_thin:
            _thin(pack)
        stream, depth, inbox = self._places[pack.lane_class]
        return await self._line.run(
            script("enqueue"),
            [stream, depth, self._names.pk(pack.pack_id), inbox],
            [
                GROUP, pack.pack_id, self._blob(pack), pack.jobs,
                pack.items, pack.size_bytes, pack.tokens,
                int((pack.budget_s + PK_GRACE_S) * 1_000), INBOX_TTL_MS,
                self._bounds.max_items, self._bounds.max_bytes,
                ",".join(map(str, pack.open)) if is_thin else "",
            ],
            patience_s=QUICK_PATIENCE_S,
        )  # fmt: skip

    def _blob(self, pack: PostedPack) -> bytes:
        """Write the jobs still open, each with what is left of its budget."""
        now = asyncio.get_running_loop().time()
        merges: dict[MergeKey, int] = {}
        jobs: list[Job] = []
        for posted in pack.open.values():
            job = posted.job
            job.merge = merges.setdefault(posted.merge, len(merges))
            job.budget_ms = max(1, int((posted.answer.give_up_at - now) * 1_000))
            if posted.credential is not None:
                job.sealed = self._seal(posted.credential, job_place(pack.pack_id, job.number))
            jobs.append(job)
        return encode(Pack(self._api_id, list(merges), jobs))

    def _refuse(self, pack: PostedPack, error: EmbedPoolError) -> None:
        self.packs.pop(pack.pack_id, None)
        pack.was_refused = True
        for posted in pack.open.values():
            posted.answer.fail(error)
        pack.open.clear()

    async def _cancel(self, pack: PostedPack) -> None:
        cancelled, pack.cancelled = pack.cancelled, []
        # Of a pack sent more than once with different jobs nobody knows which one Redis has.
        is_touched = pack.was_answered or pack.was_thinned
        is_whole = not (pack.open or is_touched) and len(cancelled) == pack.jobs
        numbers = ",".join(str(posted.job.number) for posted in cancelled)
        records = encode([_unused(pack, posted) for posted in cancelled])
        names = self._names
        try:
            await self._line.run(
                script("cancel"),
                [
                    names.stream(pack.lane_class), names.depth,
                    names.pk(pack.pack_id), names.part(pack.pack_id), names.ledger,
                ],
                [
                    GROUP, numbers, int(is_whole),
                    pack.items, pack.size_bytes, pack.tokens, records,
                ],
                patience_s=QUICK_PATIENCE_S,
            )  # fmt: skip
        except RedisRefused:
            pass
        except QueueUnavailable:
            pack.cancelled = cancelled + pack.cancelled
            self._marked.add(pack)
            raise
        if not pack.open:
            self.packs.pop(pack.pack_id, None)


def _thin(pack: PostedPack) -> None:
    """Measure a pack that leaves, or leaves again, without jobs that have ended."""
    jobs = [posted.job for posted in pack.open.values()]
    pack.was_thinned = True
    pack.items = sum(len(job.inputs) for job in jobs)
    pack.size_bytes = sum(job.size_bytes for job in jobs)
    pack.tokens = sum(job.tokens for job in jobs)


def _unused(pack: PostedPack, posted: PostedJob) -> LedgerRecord:
    """Record a job that nobody was paid for; it costs nothing, and ends its reservations."""
    job = posted.job
    return LedgerRecord(
        pack.pack_id, job.number, job.account, posted.merge.model, "",
        used=0, paid=0, saved=0, waste=0, reason="cancelled", items=len(job.inputs),
        price_per_token_pico_usd=job.price_per_token_pico_usd, bill=job.bill,
    )  # fmt: skip


class NoWorker(QueueUnavailable):
    """The queue leads nowhere: nobody has worked on it for a while."""


def no_worker(message: str) -> NoWorker:
    """Say that nobody works, and that trying again soon is right."""
    return NoWorker(message, code="queue_unavailable", retry_after_s=1.0)


def queue_unavailable(message: str) -> QueueUnavailable:
    """Say that the queue cannot be used now, and that trying again soon is right."""
    return QueueUnavailable(message, code="queue_unavailable", retry_after_s=1.0)


def _has_room(pack: PostedPack, job: Job) -> bool:
    return (
        pack.jobs < MAX_PACK_JOBS
        and pack.items + len(job.inputs) <= MAX_PACK_ITEMS
        and pack.size_bytes + job.size_bytes <= MAX_PACK_BYTES
    )


def _overloaded(waiting_items: int, served_per_s: int) -> Overloaded:
    wait_s = min(MAX_RETRY_AFTER_S, max(1.0, waiting_items / max(1, served_per_s)))
    return Overloaded(
        f"The queue is full: {waiting_items} inputs wait; try again later",
        code="overloaded",
        retry_after_s=wait_s,
    )
