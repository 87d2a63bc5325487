"""Items of one merge key and class, and the loop that sends them.

The loop waits until a batch is due, then for a permit, and only then forms the batch, so it holds
whatever arrived meanwhile.

Invariants:
- A lone item leaves at once; under load nobody waits longer than the linger once a permit is free.
- Interactive and bulk items wait apart; bulk may ride along, never the other way round.
- A loop lives only while its items do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from embedpool_shared.errors import DeadlineExceeded, PoolError
from embedpool_shared.jobs import LaneClass, MergeKey
from embedpool_worker.batch import Batch
from embedpool_worker.caps import Caps
from embedpool_worker.delivery import Sending
from embedpool_worker.deployments import Deployment
from embedpool_worker.dispatch import Dispatcher
from embedpool_worker.headroom import Need
from embedpool_worker.held import HeldJob, HeldPack, Item
from embedpool_worker.marks import FRESH_FOR_S, Marks
from embedpool_worker.packing import Waiting, due_in, form
from embedpool_worker.permits import Permit, Permits

Work = Coroutine[Any, Any, None]
Spawn = Callable[[Work], object]

TIMER_GRAIN_S: Final = 0.0001
"""A timer shorter than this is not worth arming: what is due by then is due now."""


class Home(Protocol):
    """The lane a queue belongs to."""

    permits: Permits
    dispatcher: Dispatcher
    marks: Marks
    linger_s: Mapping[LaneClass, float]
    spawn: Spawn

    def tell_room(self, lane_class: LaneClass) -> None:
        """Recount what waits."""

    def bulk_beside(self, merge: MergeKey) -> Waiting | None:
        """The bulk items that could ride along with interactive ones of this merge key."""

    def call_began(self) -> None:
        """Count a batch on its way."""

    def call_ended(self) -> None:
        """Count it back."""

    def queue_again(self, items: Iterable[Item]) -> None:
        """Queue items once more that joined a call which had less time than they have."""

    def forget(self, queue: MergeQueue) -> None:
        """Drop a queue that is empty and has nothing in flight."""


class MergeQueue:
    """What waits under one merge key in one class."""

    def __init__(
        self,
        lane: Home,
        merge: MergeKey,
        lane_class: LaneClass,
        deployments: Sequence[Deployment],
    ) -> None:
        """Start empty and asleep."""
        self.merge = merge
        self.lane_class = lane_class
        self.waiting = Waiting()
        self._lane = lane
        self._deployments = deployments
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._is_running = False
        self._is_stopped = False

    @property
    def caps(self) -> Caps:
        """What the first deployment takes in one call, as far as is known."""
        return self._lane.dispatcher.caps_of(self._deployments[0])

    def append(self, items: Iterable[Item]) -> None:
        """Queue items."""
        for item in items:
            self.waiting.append(item)

    def wake(self) -> None:
        """Look again: items arrived, or a call ended."""
        if self._is_running:
            self._wake.set()
        elif self.waiting.items and not self._is_stopped:
            self._is_running = True
            self._lane.spawn(self._run())

    def withdrawn(self) -> set[HeldJob]:
        """Take out every item whose job was cancelled, and list those jobs."""
        waiting, self.waiting = self.waiting, Waiting()
        jobs = {item.job for item in waiting.items if item.job.is_cancelled}
        for item in waiting.items:
            if item.job not in jobs:
                self.waiting.append(item)
        if jobs:
            self._lane.tell_room(self.lane_class)
            self._wake.set()
        return jobs

    def stop(self) -> None:
        """Send nothing more."""
        self._is_stopped = True
        self.waiting = Waiting()
        self._wake.set()

    async def _run(self) -> None:
        """Send whatever is due until nothing waits any more."""
        lone: Work | None = None
        batches = 0
        try:
            while self.waiting.items:
                # With nothing in flight a batch is due at once.
                if self._in_flight and not await self._is_due():
                    break
                permit = await self._permit()
                sending = self._formed(permit) if permit else None
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

    async def _permit(self) -> Permit | None:
        """Wait for a permit, and for the marks of what waits; None if none comes in time."""
        permits, lane_class = self._lane.permits, self.lane_class
        permit = permits.at_once(self._deployments, lane_class, need=self._need)
        if permit is None:
            until_at = max(item.job.deadline_at for item in self.waiting.items)
            try:
                permit = await permits.acquire(
                    self._deployments, lane_class, until_at=until_at, need=self._need
                )
            except PoolError as error:
                self._refuse(error, until_at=until_at)
                return None
        unknown = self._unmarked()
        if unknown:
            await self._lane.marks.read(unknown)
        return permit

    def _formed(self, permit: Permit) -> Work | None:
        """Form a batch that this permit is good for; None if nobody wants one any more."""
        lane, loop = self._lane, asyncio.get_running_loop()
        beside = None
        if self.lane_class is LaneClass.INTERACTIVE:
            beside = lane.bulk_beside(self.merge)
        formed = form(
            self.waiting,
            self._caps_under(permit),
            now=loop.time(),
            bulk=beside,
            join=lane.dispatcher.flights.joining(self.merge),
        )
        loop.call_soon(lane.tell_room, self.lane_class)  # the call goes first
        if beside is not None:  # bulk may have ridden along
            loop.call_soon(lane.tell_room, LaneClass.BULK)
        if formed.unwanted:
            lane.dispatcher.fail(formed.unwanted, _too_late())
        if not formed.items:
            lane.permits.give_back(permit)
            return None
        batch = Batch(formed.items, self.lane_class, self._deployments)
        self._in_flight += 1
        lane.call_began()
        return self._send(lane.dispatcher.take_off(batch), permit)

    def _need(self) -> Need:
        oldest = self.waiting.items[0] if self.waiting.items else None
        return Need(
            self.waiting.tokens, oldest.tokens if oldest else 0, max(1, len(self.waiting.items))
        )

    def _caps_under(self, permit: Permit) -> Caps:
        """What the call may carry: what its deployment takes, and what its key has left."""
        caps = self._lane.dispatcher.caps_of(permit.health.deployment)
        left = permit.max_tokens if permit.share else None
        if left is None or (caps.max_call_tokens is not None and caps.max_call_tokens <= left):
            return caps
        return replace(caps, max_call_tokens=left)

    def _refuse(self, error: PoolError, *, until_at: float) -> None:
        """Fail what no permit comes in time for; what arrived since may be able to wait longer."""
        waiting, self.waiting = self.waiting, Waiting()
        jobs = {item.job for item in waiting.items if item.job.deadline_at <= until_at}
        for item in waiting.items:
            if item.job not in jobs:
                self.waiting.append(item)
        self._lane.tell_room(self.lane_class)
        self._lane.dispatcher.fail(jobs, error)

    async def _send(self, sending: Sending, permit: Permit) -> None:
        again: Sequence[Item] = ()
        try:
            again = await self._lane.dispatcher.send(sending, permit)
            await _answers_first()
        finally:
            self._in_flight -= 1
            self._lane.call_ended()
            self._lane.queue_again(again)
            self.wake()
            self._forget_if_idle()
            self._lane.dispatcher.tell(sending)

    def _unmarked(self) -> list[HeldPack]:
        """List the packs of which nobody knows by now whether they were cancelled.

        None while all is so fresh that a lone request would only wait.
        """
        oldest_at = asyncio.get_running_loop().time() - FRESH_FOR_S
        packs = dict.fromkeys([item.job.pack for item in self.waiting.items])
        return [pack for pack in packs if pack.checked_at < oldest_at]

    def _forget_if_idle(self) -> None:
        if not self._is_running and not self.waiting.items and not self._in_flight:
            self._lane.forget(self)


async def _answers_first() -> None:
    """Let the committer send what was just answered; looking after ourselves can wait a turn."""
    await asyncio.sleep(0)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The request's deadline passed before a provider call could be made; "
        "allow more time or send less at once",
        code="timeout",
    )
