"""A model's waiting work in this worker: by merge key and class, each with its dispatch loop.

A dispatch loop waits until a batch is due, then for a permit, and only then forms the batch, so it
holds whatever arrived meanwhile.

Invariants:
- A lone item leaves at once; under load nobody waits longer than the linger once a permit is free.
- Interactive and bulk items wait apart; bulk may ride along, never the other way round.
- A loop lives only while its items do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedpool_shared.errors import DeadlineExceeded, ModelNotFound, PoolError
from embedpool_shared.jobs import LaneClass, MergeKey
from embedpool_worker.calls import Batch
from embedpool_worker.deployments import Deployment
from embedpool_worker.dispatch import Dispatcher
from embedpool_worker.held import HeldJob, HeldPack, items_of
from embedpool_worker.marks import FRESH_FOR_S, Marks
from embedpool_worker.packing import Waiting, due_in, form
from embedpool_worker.permits import Permits

Sending = Coroutine[Any, Any, None]
Spawn = Callable[[Sending], object]
DeploymentsOf = Callable[[MergeKey], Sequence[Deployment]]

LOOKAHEAD_CALLS: Final = 2
"""A lane holds items for so many full calls; what waits longer waits in Redis, for any worker."""
TIMER_GRAIN_S: Final = 0.0001
"""A timer shorter than this is not worth arming: what is due by then is due now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneBounds:
    """How long items wait here for company, and how many of them."""

    linger_s: Mapping[LaneClass, float]
    max_waiting_items: int


class Lane:
    """Admits packs and keeps a dispatch loop per merge key and class."""

    def __init__(
        self,
        *,
        deployments_of: DeploymentsOf,
        permits: Permits,
        dispatcher: Dispatcher,
        marks: Marks,
        bounds: LaneBounds,
        spawn: Spawn,
    ) -> None:
        """`spawn` runs a coroutine in the pool's task group."""
        self.permits = permits
        self.dispatcher = dispatcher
        self.marks = marks
        self.linger_s = bounds.linger_s
        self.spawn = spawn
        self._deployments_of = deployments_of
        self._max_waiting_items = bounds.max_waiting_items
        self._queues: dict[tuple[MergeKey, LaneClass], MergeQueue] = {}
        self._room = {lane_class: asyncio.Event() for lane_class in LaneClass}
        self._calls = 0
        self._is_cleared = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        for event in self._room.values():
            event.set()

    def admit(self, pack: HeldPack) -> None:
        """Queue every open job of a pack that was just leased, unless the lane was cleared."""
        if self._is_cleared:
            return
        touched: dict[int, MergeQueue] = {}
        for job in list(pack.open.values()):
            queue = self._queue(job, pack.lane_class)
            if queue is not None:
                queue.append(job)
                touched[id(queue)] = queue
        for queue in touched.values():
            queue.wake()
        self.tell_room(pack.lane_class)

    def _queue(self, job: HeldJob, lane_class: LaneClass) -> MergeQueue | None:
        place = (job.merge, lane_class)
        queue = self._queues.get(place)
        if queue is None:
            deployments = self._deployments_of(job.merge)
            if not deployments:
                self.dispatcher.fail([job], _nobody_serves(job.merge))
                return None
            queue = self._queues[place] = MergeQueue(self, job.merge, lane_class, deployments)
        return queue

    async def has_room(self, lane_class: LaneClass) -> None:
        """Wait until fewer items of this class wait here than two full calls take."""
        await self._room[lane_class].wait()

    def tell_room(self, lane_class: LaneClass) -> None:
        """Recount what waits."""
        queues = [q for (_, c), q in self._queues.items() if c is lane_class]
        waiting = sum(len(queue.waiting.items) for queue in queues)
        most = max((LOOKAHEAD_CALLS * queue.caps.max_items for queue in queues), default=1)
        if waiting < min(most, self._max_waiting_items):
            self._room[lane_class].set()
        else:
            self._room[lane_class].clear()

    def bulk_beside(self, merge: MergeKey) -> Waiting | None:
        """The bulk items that could ride along with interactive ones of this merge key."""
        queue = self._queues.get((merge, LaneClass.BULK))
        return queue.waiting if queue else None

    def forget(self, queue: MergeQueue) -> None:
        """Drop a queue that is empty and has nothing in flight."""
        self._queues.pop((queue.merge, queue.lane_class), None)

    def call_began(self) -> None:
        """Count a batch on its way."""
        self._calls += 1
        self._quiet.clear()

    def call_ended(self) -> None:
        """Count it back."""
        self._calls -= 1
        if not self._calls:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no call is in flight."""
        await self._quiet.wait()

    def clear(self) -> None:
        """Forget everything that waits, and take nothing more: entries are being handed back."""
        self._is_cleared = True
        for queue in list(self._queues.values()):
            queue.stop()


class MergeQueue:
    """Items of one merge key and class, and the loop that sends them."""

    def __init__(
        self,
        lane: Lane,
        merge: MergeKey,
        lane_class: LaneClass,
        deployments: Sequence[Deployment],
    ) -> None:
        """Start empty and asleep."""
        self.merge = merge
        self.lane_class = lane_class
        self.waiting = Waiting()
        self.caps = deployments[0].caps
        self._lane = lane
        self._deployments = deployments
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._is_running = False
        self._is_stopped = False

    def append(self, job: HeldJob) -> None:
        """Queue all items of a job."""
        for item in items_of(job):
            self.waiting.append(item)

    def wake(self) -> None:
        """Look again: items arrived, or a call ended."""
        self._wake.set()
        if not self._is_running and self.waiting.items and not self._is_stopped:
            self._is_running = True
            self._lane.spawn(self._run())

    def stop(self) -> None:
        """Send nothing more."""
        self._is_stopped = True
        self.waiting = Waiting()
        self._wake.set()

    async def _run(self) -> None:
        lone: Sending | None = None
        batches = 0
        try:
            while self.waiting.items:
                sending = await self._sending() if await self._is_due() else None
                batches += sending is not None
                if sending is not None and batches == 1 and not self.waiting.items:
                    lone = sending
                elif sending is not None:
                    self._lane.spawn(sending)
        finally:
            self._is_running = False
            self._forget_if_idle()
        if lone is not None:  # it leaves in this very step; what comes next starts a loop anew
            await lone

    async def _is_due(self) -> bool:
        """Wait until a batch should leave; False if nothing waits any more."""
        now = asyncio.get_running_loop().time
        while (pause_s := self._due_in(now())) is not None:
            if pause_s < TIMER_GRAIN_S:
                return True
            self._wake.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
        return False

    def _due_in(self, now: float) -> float | None:
        linger_s = self._lane.linger_s[self.lane_class]
        return due_in(
            self.waiting, self.caps, in_flight=self._in_flight, linger_s=linger_s, now=now
        )

    async def _sending(self) -> Sending | None:
        """Wait for a permit and form a batch; None if nobody wants one any more."""
        lane = self._lane
        until_at = max(item.job.deadline_at for item in self.waiting.items)
        try:
            permit = await lane.permits.acquire(
                self._deployments, self.lane_class, until_at=until_at
            )
        except PoolError as error:
            self._refuse(error, until_at=until_at)
            return None
        await self._refresh_marks()
        now = asyncio.get_running_loop().time()
        beside = None
        if self.lane_class is LaneClass.INTERACTIVE:
            beside = lane.bulk_beside(self.merge)
        formed = form(self.waiting, permit.health.deployment.caps, now=now, bulk=beside)
        lane.tell_room(self.lane_class)
        if beside is not None:  # bulk may have ridden along
            lane.tell_room(LaneClass.BULK)
        lane.dispatcher.fail(formed.unwanted, _too_late())
        if not formed.items:
            lane.permits.give_back(permit)
            return None
        batch = Batch(formed.items, self.merge, self.lane_class, self._deployments)
        self._in_flight += 1
        lane.call_began()
        return self._send(batch, permit)

    def _refuse(self, error: PoolError, *, until_at: float) -> None:
        """Fail what no permit comes in time for; what arrived since may be able to wait longer."""
        waiting, self.waiting = self.waiting, Waiting()
        jobs = {item.job for item in waiting.items if item.job.deadline_at <= until_at}
        for item in waiting.items:
            if item.job not in jobs:
                self.waiting.append(item)
        self._lane.tell_room(self.lane_class)
        self._lane.dispatcher.fail(jobs, error)

    async def _send(self, batch: Batch, permit: Any) -> None:
        try:
            await self._lane.dispatcher.send(batch, permit)
        finally:
            self._in_flight -= 1
            self._lane.call_ended()
            self.wake()
            self._forget_if_idle()

    async def _refresh_marks(self) -> None:
        """Ask for cancellations, unless all is so fresh that a lone request would only wait."""
        oldest_at = asyncio.get_running_loop().time() - FRESH_FOR_S
        packs = {
            id(item.job.pack): item.job.pack
            for item in self.waiting.items
            if item.job.pack.checked_at < oldest_at
        }
        if packs:
            await self._lane.marks.read(packs.values())

    def _forget_if_idle(self) -> None:
        if not self._is_running and not self.waiting.items and not self._in_flight:
            self._lane.forget(self)


def _nobody_serves(merge: MergeKey) -> ModelNotFound:
    return ModelNotFound(
        f"The model '{merge.model}' is not served by this pool", code="model_not_found"
    )


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The request's deadline passed before a provider call could be made; "
        "allow more time or send less at once",
        code="timeout",
    )
