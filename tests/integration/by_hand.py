"""A worker whose every step a test takes by hand: deliveries, commits, lease beats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import ConnectionPool
from typing_extensions import override

from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import JobReply, LaneClass, LedgerRecord
from embedpool_shared.names import GROUP
from embedpool_shared.scripts import Script
from embedpool_worker.clock import RedisClock
from embedpool_worker.commit import Committer
from embedpool_worker.endings import Ending
from embedpool_worker.handover import HandBack
from embedpool_worker.held import HeldJob, HeldPack, held_pack
from embedpool_worker.leases import Delivery, Leases
from embedpool_worker.marks import Marks
from integration.one_process import DIMS, Counting, right
from support.vectors import token_count

if TYPE_CHECKING:
    from integration.one_process import Site


def answered(job: HeldJob) -> Ending:
    """The ending of a job that its provider answered, every token paid and used."""
    tokens = sum(token_count(given) for given in job.job.inputs)
    record = LedgerRecord(
        job.pack.pack_id, job.job.number, job.job.account, job.merge.model, "fake",
        used=tokens, paid=tokens, saved=0, waste=0,
        price_per_token_pico_usd=job.job.price_per_token_pico_usd, bill=job.job.bill,
    )  # fmt: skip
    vectors = b"".join(right(job.job.inputs))
    return Ending(job, JobReply(job.job.number, vectors, DIMS, tokens), record)


class Forgetful(Counting):
    """A line that loses the first reply to each of its scripts, after Redis has run it."""

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__(pool)
        self.is_forgetful = False
        self.lost = 0
        self._lost_last = False

    @override
    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], **patience: float
    ) -> Any:
        reply = await super().run(script, keys, arguments, **patience)
        self._lost_last = self.is_forgetful and not self._lost_last
        if self._lost_last:
            self.lost += 1
            raise QueueUnavailable("the reply is lost")
        return reply


class Hand:
    """One consumer of the test lane."""

    def __init__(
        self,
        site: Site,
        worker_id: str = "h1",
        *,
        lease_s: float = 5.0,
        on_recorded: Callable[[], None] = lambda: None,
    ) -> None:
        self.worker_id = worker_id
        self.released: list[HeldPack] = []
        self.taken_over: list[Delivery] = []
        self._names = site.lane
        self._line = site.line(f"{worker_id}-hand")
        self.commit_line = site.line_of(Forgetful, f"{worker_id}-commit")
        self.committer = Committer(
            self.commit_line,
            site.lane,
            RedisClock(),
            on_done=self.released.append,
            on_recorded=on_recorded,
        )
        self.leases = Leases(
            site.line(f"{worker_id}-lease"),
            site.lane,
            RedisClock(),
            consumer=worker_id,
            lease_s=lease_s,
            on_taken_over=self.taken_over.extend,
        )
        self.marks = Marks(site.line(f"{worker_id}-marks"), site.lane)
        self.hand_back = HandBack(
            site.line(f"{worker_id}-hand-back"), site.lane, consumer=worker_id
        )
        site.spawn(self.committer.run())
        self._site = site

    async def take(self, lane_class: LaneClass = LaneClass.INTERACTIVE) -> list[HeldPack]:
        """Lease everything that nobody has seen."""
        stream = self._names.stream(lane_class)
        reply = await self._line.call(
            "XREADGROUP", "GROUP", GROUP, self.worker_id, "STREAMS", stream, ">"
        )
        return [self._held(lane_class, e, f, 0) for e, f in (reply[0][1] if reply else [])]

    def taken(self) -> list[HeldPack]:
        """What the lease beats have taken over so far."""
        return [self._held(c, e, f, n) for c, e, f, n in self.taken_over]

    def keep_beating(self) -> asyncio.Task[None]:
        """Renew and take over until cancelled."""
        return self._site.spawn(self.leases.run())

    async def commit(self, jobs: Sequence[HeldJob]) -> None:
        """Commit these jobs as answered, all at once."""
        self.committer.end([answered(job) for job in jobs])
        await self.committer.drained()

    @staticmethod
    def _held(
        lane_class: LaneClass, entry_id: bytes, flat: Sequence[bytes], earlier: int
    ) -> HeldPack:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        now = asyncio.get_running_loop().time()
        return held_pack(lane_class, entry_id, fields, arrived_at=now, earlier_deliveries=earlier)
