"""A model's waiting work in this worker: admitted, queued by merge key and class, counted.

Invariants:
- Every item of an admitted pack is in the cache, in flight or in a queue; nothing is sent twice.
- What waits here is bounded; what waits longer waits in Redis, for any worker.
- A queue lives only while its items or its calls do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from embedpool_shared.errors import DeadlineExceeded, EmbedPoolError, ModelNotFound
from embedpool_shared.jobs import LaneClass, MergeKey
from embedpool_worker.dispatch import Dispatcher
from embedpool_worker.held import HeldJob, HeldPack, Item, items_of
from embedpool_worker.marks import Marks
from embedpool_worker.merge_queue import MergeQueue, Spawn
from embedpool_worker.packing import Waiting
from embedpool_worker.permits import Permits
from embedpool_worker.recall import DeploymentsOf, Recall

LOOKAHEAD_CALLS: Final = 2
"""A lane holds items for so many full calls; what waits longer waits in Redis, for any worker."""


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
        self.recall: Recall | None = None
        """Knows cached vectors; None where there is no cache."""
        self.permits = permits
        self.dispatcher = dispatcher
        self.marks = marks
        self.linger_s = bounds.linger_s
        self.spawn = spawn
        self._deployments_of = deployments_of
        self._max_waiting_items = bounds.max_waiting_items
        self._queues: dict[tuple[MergeKey, LaneClass], MergeQueue] = {}
        self._aside: dict[HeldPack, int] = {}  # direct packs that are being looked up: their items
        self._room = {lane_class: asyncio.Event() for lane_class in LaneClass}
        self._direct_room = asyncio.Event()
        self._calls = 0
        self._is_cleared = False
        self._quiet = asyncio.Event()
        for event in (*self._room.values(), self._direct_room):
            event.set()

    def admit(self, pack: HeldPack) -> None:
        """Queue every open job of a pack just leased or fed, unless the lane was cleared."""
        if self._is_cleared:
            return
        if self.recall is None:
            self._admit(pack, [])
            return
        if pack.home is not None:
            self._aside[pack] = sum(job.missing for job in pack.open.values())
        self.recall.look_up(pack, self._deployments_of, then=self._admit)

    def _admit(self, pack: HeldPack, complete: list[tuple[HeldJob, str]]) -> None:
        self._aside.pop(pack, None)
        if self._is_cleared or pack.is_lost:
            return
        for job, model in complete:
            pack.is_begun = True
            self.dispatcher.answer_from_cache(job, model=model)
        self._queue_items(pack.open.values())

    def _queue_items(self, jobs: Iterable[HeldJob]) -> None:
        touched: dict[int, MergeQueue] = {}
        for job in list(jobs):
            waiting = [] if job.has_ended else self.dispatcher.flights.not_aloft(items_of(job))
            queue = self._queue(job, job.pack.lane_class) if waiting else None
            if queue is not None:
                queue.append(waiting)
                touched[id(queue)] = queue
        for queue in touched.values():
            queue.wake()

    def queue_again(self, items: Iterable[Item]) -> None:
        """Queue items once more that joined a call which had less time than they have."""
        for item in items:
            queue = None if self._is_cleared else self._queue(item.job, item.job.pack.lane_class)
            if queue is not None and not item.job.has_ended:
                queue.append([item])
                queue.wake()

    def _queue(self, job: HeldJob, lane_class: LaneClass) -> MergeQueue | None:
        place = (job.merge, lane_class)
        queue = self._queues.get(place)
        if queue is None:
            try:
                deployments = self._deployments_of(job)
            except EmbedPoolError as error:
                self.dispatcher.fail([job], error)
                return None
            if not deployments:
                self.dispatcher.fail([job], _nobody_serves(job.merge))
                return None
            queue = self._queues[place] = MergeQueue(self, job.merge, lane_class, deployments)
        return queue

    async def has_room(self, lane_class: LaneClass) -> None:
        """Wait until fewer items of this class wait here than two full calls take."""
        self.tell_room(lane_class)
        await self._room[lane_class].wait()

    async def has_direct_room(self) -> None:
        """Wait until fewer items that were fed directly wait here than two full calls take.

        Whoever waits feeds one piece each time: so they share evenly, and nobody's queue is long.
        """
        self.tell_room(LaneClass.BULK)
        await self._direct_room.wait()

    def tell_room(self, lane_class: LaneClass) -> None:
        """Recount what waits; what was fed directly keeps nobody from reading."""
        waiting = leased = 0
        most = 1
        for (_, its_class), queue in self._queues.items():
            if its_class is lane_class:
                waiting += len(queue.waiting.items)
                leased += queue.waiting.leased
                most = max(most, LOOKAHEAD_CALLS * queue.caps.max_items)
        most = min(most, self._max_waiting_items)
        self.dispatcher.witness.metrics.waiting(lane_class, waiting)
        _set_if(self._room[lane_class], leased < most)
        if lane_class is LaneClass.BULK:
            direct = waiting - leased + sum(self._aside.values())
            _set_if(self._direct_room, direct < most)

    def bulk_beside(self, merge: MergeKey) -> Waiting | None:
        """The bulk items that could ride along with interactive ones of this merge key."""
        queue = self._queues.get((merge, LaneClass.BULK))
        return queue.waiting if queue else None

    def withdraw(self) -> None:
        """End the jobs that were cancelled and still wait, without waiting for a permit."""
        for queue in list(self._queues.values()):
            self.dispatcher.fail(queue.withdrawn(), _cancelled())

    def forget(self, queue: MergeQueue) -> None:
        """Drop a queue that is empty and has nothing in flight."""
        self._queues.pop((queue.merge, queue.lane_class), None)

    def call_began(self) -> None:
        """Count a batch on its way."""
        self._calls += 1

    def call_ended(self) -> None:
        """Count it back."""
        self._calls -= 1
        if not self._calls:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no call is in flight."""
        while self._calls:
            self._quiet.clear()
            await self._quiet.wait()

    def clear(self) -> None:
        """Forget everything that waits, and take nothing more: entries are being handed back."""
        self._is_cleared = True
        for queue in list(self._queues.values()):
            queue.stop()


def _set_if(event: asyncio.Event, is_so: bool) -> None:
    if is_so:
        event.set()
    else:
        event.clear()


def _cancelled() -> DeadlineExceeded:
    return DeadlineExceeded("The request was cancelled before a provider call could be made")


def _nobody_serves(merge: MergeKey) -> ModelNotFound:
    return ModelNotFound(
        f"The model '{merge.model}' is not served by this pool", code="model_not_found"
    )
