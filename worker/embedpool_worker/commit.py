"""The commit: acknowledgement, replies, ledger records and depth of a batch, in one script call.

Invariants:
- A job is answered and billed exactly once, whoever else holds its pack: the script fences.
- A commit that Redis may or may not have seen is repeated as it was, under the same id.
- Endings that gather while a commit is under way leave together in the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from random import random
from time import monotonic
from typing import Any

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LaneClass, LedgerRecord, Reply, encode
from embedpool_shared.names import GROUP, LaneNames
from embedpool_shared.redis import Line, RedisRefused
from embedpool_shared.scripts import script
from embedpool_shared.serials import serials
from embedpool_worker.clock import RedisClock
from embedpool_worker.endings import Ending, wasted
from embedpool_worker.held import HeldPack
from embedpool_worker.witness import LaneWitness, unwatched

log = logging.getLogger(__name__)

MAX_COMMIT_BYTES = 4 * 1024 * 1024
"""Redis serves nobody else while it copies a commit; a larger one is sent in parts."""
LEDGER_BOUND = 100_000
"""Most ledger entries kept per lane until they are rolled up."""


class Committer:
    """Owns one lane's commit line."""

    def __init__(
        self,
        line: Line,
        names: LaneNames,
        clock: RedisClock,
        *,
        on_done: Callable[[HeldPack], None],
        on_recorded: Callable[[], None] = lambda: None,
        witness: LaneWitness | None = None,
    ) -> None:
        """Report every pack whose entry is finished, here or elsewhere, to `on_done`.

        `on_recorded` learns each time that the ledger may have more to roll up.
        """
        self._line = line
        self._names = names
        self._depth, self._ledger = names.depth, names.ledger
        self._streams = {lane_class: names.stream(lane_class) for lane_class in LaneClass}
        self._clock = clock
        self._on_done = on_done
        self._on_recorded = on_recorded
        self._metrics = (witness or unwatched()).metrics
        self._ids = serials()
        self._endings: list[Ending] = []
        self._wasted: list[LedgerRecord] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def end(self, endings: Iterable[Ending]) -> None:
        """Commit these as soon as the line is free; those of direct jobs go home at once."""
        for ending in endings:
            job = ending.job
            job.has_ended = True
            if ending.reply.cached:
                self._metrics.cached(ending.reply.cached)
            if job.pack.home is None:
                self._endings.append(ending)
            else:
                job.pack.open.pop(job.job.number, None)
                job.pack.home(job, ending.reply, ending.record)
        if self._endings:
            self._idle.clear()
            self._wake.set()

    def waste(self, record: LedgerRecord) -> None:
        """Book what a provider was paid for a job that somebody else had answered meanwhile."""
        self._wasted.append(record)
        self._idle.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Wait until everything handed in so far is committed."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._endings:
                await self._commit(self._take_some())
            await self._book_waste()
            if not self._wake.is_set():
                self._idle.set()

    def _take_some(self) -> list[Ending]:
        taken: list[Ending] = []
        size_bytes = 0
        for ending in self._endings:
            size_bytes += len(ending.reply.vectors)
            if taken and size_bytes > MAX_COMMIT_BYTES:
                break
            taken.append(ending)
        del self._endings[: len(taken)]
        return taken

    async def _commit(self, endings: list[Ending]) -> None:
        parts = _by_pack(endings)
        for part in parts:
            part.is_whole = part.is_whole and not part.pack.was_split
            part.pack.was_split = part.pack.was_split or not part.is_whole
        again = await self._send(parts)
        for part in again:
            part.is_whole = False
            part.pack.was_split = True
        if again:
            await self._send(again)

    async def _send(self, parts: list[_Part]) -> list[_Part]:
        """Send one commit; return the parts that Redis wants job by job."""
        keys = [self._depth, self._ledger]
        arguments: list[Any] = [GROUP, next(self._ids), LEDGER_BOUND, len(parts)]
        for part in parts:
            keys += part.keys(self._names, self._streams[part.pack.lane_class])
            arguments += part.arguments()
        began_at = monotonic()
        time_us, *results = await self._until_redis_answers(keys, arguments)
        self._metrics.commit_s.note(monotonic() - began_at)
        self._clock.learn(time_us, now=asyncio.get_running_loop().time())
        self._on_recorded()
        again = []
        for part, (state, *left_out) in zip(parts, results, strict=True):
            if state == 2:
                again.append(part)
                continue
            self._wasted += part.wasted(None if state == 0 else left_out)
            self._finish(part, is_fenced=state == 0)
        return again

    async def _until_redis_answers(self, keys: list[str], arguments: list[Any]) -> list[Any]:
        failures = 0
        while True:
            try:
                return list(await self._line.run(script("commit"), keys, arguments))
            except QueueUnavailable as unavailable:
                if isinstance(unavailable, RedisRefused):
                    log.error("commit_refused lane=%s error=%s", self._names.tag, unavailable)  # noqa: TRY400
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1

    def _finish(self, part: _Part, *, is_fenced: bool) -> None:
        pack = part.pack
        for ending in part.endings:
            pack.open.pop(ending.job.job.number, None)
        if is_fenced:
            pack.is_lost = True
            self._metrics.leases_lost.add()
        if is_fenced or not pack.open:
            self._on_done(pack)

    async def _book_waste(self) -> None:
        """Losing such a record loses both its columns, so it may be lost with the connection."""
        records, self._wasted = self._wasted, []
        if records:
            with suppress(QueueUnavailable):
                await self._line.call("XADD", self._ledger, "*", "r", encode(records))
                self._on_recorded()


@dataclass(slots=True, eq=False)
class _Part:
    """What one commit says of one pack."""

    pack: HeldPack
    endings: list[Ending]
    is_whole: bool

    def keys(self, names: LaneNames, stream: str) -> list[str]:
        pack_id = self.pack.pack_id
        return [stream, names.part(pack_id), names.pk(pack_id), names.inbox(self.pack.api)]

    def arguments(self) -> list[Any]:
        entry_id, pack_id = self.pack.entry_id, self.pack.pack_id
        if self.is_whole:
            replies = encode(Reply(pack_id, [ending.reply for ending in self.endings]))
            records = encode([ending.record for ending in self.endings])
            kind = "h" if self.pack.deliveries else "w"
            return [kind, entry_id, *_sums(self.endings), replies, records]
        numbers = ",".join(map(str, self.pack.numbers))
        arguments: list[Any] = ["s", entry_id, numbers, len(self.endings)]
        for ending in self.endings:
            arguments += [ending.job.job.number, *_sums([ending])]
            arguments += [encode(Reply(pack_id, [ending.reply])), encode([ending.record])]
        return arguments

    def wasted(self, left_out: list[int] | None) -> list[LedgerRecord]:
        """Rewrite the records of jobs left out (None: all of them) as waste."""
        return [
            wasted(ending.record)
            for ending in self.endings
            if ending.record.paid and (left_out is None or ending.record.number in left_out)
        ]


def _by_pack(endings: list[Ending]) -> list[_Part]:
    parts: dict[int, _Part] = {}
    for ending in endings:
        pack = ending.job.pack
        part = parts.get(id(pack))
        if part is None:
            part = parts[id(pack)] = _Part(pack, [], is_whole=False)
        part.endings.append(ending)
    for part in parts.values():
        part.is_whole = len(part.endings) == len(part.pack.numbers)
    return list(parts.values())


def _sums(endings: list[Ending]) -> tuple[int, int, int]:
    """Items, bytes and tokens that stop waiting, as the enqueue counted them."""
    items = size_bytes = tokens = 0
    for ending in endings:
        job = ending.job.job
        items += len(job.inputs)
        size_bytes += job.size_bytes
        tokens += job.tokens
    return items, size_bytes, tokens
