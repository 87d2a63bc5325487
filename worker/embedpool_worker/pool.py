"""The pool of one worker process: every lane it serves, from announcement to graceful stop.

Invariants:
- A lane is served from its first announcement on; lanes announced earlier are found at start.
- A graceful stop stops reading first, hands untouched work back, and finishes what is in flight.
- Any task that fails ends the process; its supervisor hands its work over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import random
from typing import Any, Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import PoolError, QueueUnavailable
from embedpool_shared.jobs import LaneClass, MergeKey
from embedpool_shared.names import LaneNames, Names
from embedpool_shared.redis import Line
from embedpool_worker.calls import MAX_TRIES, Calls
from embedpool_worker.clock import RedisClock
from embedpool_worker.commit import Committer
from embedpool_worker.deployments import Deployment
from embedpool_worker.dispatch import Dispatcher
from embedpool_worker.handover import HandBack
from embedpool_worker.held import HeldPack, held_pack
from embedpool_worker.lane import Lane, LaneBounds
from embedpool_worker.learned_caps import LearnedCaps
from embedpool_worker.leases import Delivery, Leases
from embedpool_worker.marks import Marks
from embedpool_worker.permits import Permits
from embedpool_worker.providers.port import Provider
from embedpool_worker.reader import Reader
from embedpool_worker.recall import Recall
from embedpool_worker.rollup import Roller
from embedpool_worker.storing import Storing
from embedpool_worker.suspects import Suspects

log = logging.getLogger(__name__)

MAX_DELIVERIES: Final = 3
"""After so many a pack is taken apart, and its jobs are suspects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What a pool needs to know of the configuration."""

    worker_id: str
    lease_s: float
    linger_s: dict[LaneClass, float]
    max_leased_items: int
    slots_per_key: int
    max_tries: int = MAX_TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolParts:
    """What a pool is made of; the composition root chooses."""

    names: Names
    line: Callable[[str], Line]  # by role, one each
    deployments_of: Callable[[str, MergeKey], Sequence[Deployment]]
    adapter_of: Callable[[Deployment], Provider]
    count_in: Callable[..., Any]
    learned: LearnedCaps = field(default_factory=LearnedCaps)
    recall: Recall | None = None  # with `storing`: the vector cache, where there is one
    storing: Storing | None = None


@dataclass(slots=True, eq=False)
class ServedLane:
    """One lane and the tasks that serve it."""

    names: LaneNames
    lane: Lane
    committer: Committer
    leases: Leases
    hand_back: HandBack
    suspects: Suspects
    roller: Roller
    reading: list[asyncio.Task[None]] = field(default_factory=list)


class Pool:
    """Serves every announced lane until told to stop."""

    def __init__(self, settings: PoolSettings, parts: PoolParts) -> None:
        """Prepare; `run` connects."""
        self._settings = settings
        self._parts = parts
        self._permits = Permits(slots_per_key=settings.slots_per_key)
        self._clock = RedisClock()
        self._lanes: dict[str, ServedLane] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def run(self) -> None:
        """Serve until `stop` has finished; raises what any of its tasks raised."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._following = self._start(self._follow_lanes())

    def hurry(self) -> None:
        """Look for work a vanished worker left behind."""
        for served in self._lanes.values():
            served.leases.hurry()

    async def stop(self, *, grace_s: float) -> None:
        """Stop reading, hand back, finish what is in flight by `grace_s`, hand back the rest."""
        self._is_stopping = True
        if self._following:
            self._following.cancel()
        lanes = list(self._lanes.values())
        for served in lanes:
            for reading in served.reading:
                reading.cancel()
            served.lane.clear()
        with suppress(TimeoutError, QueueUnavailable):
            async with asyncio.timeout(grace_s):
                await asyncio.gather(*(_hand_back_untouched(served) for served in lanes))
                await asyncio.gather(*(served.lane.quiet() for served in lanes))
                await asyncio.gather(*(served.committer.drained() for served in lanes))
        with suppress(TimeoutError, QueueUnavailable):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(s.hand_back.everything(c) for s in lanes for c in LaneClass))
                # What is not rolled up in time, the next worker finds.
                await asyncio.gather(*(served.roller.drained() for served in lanes))
        for task in list(self._running):
            task.cancel()

    async def _follow_lanes(self) -> None:
        line, last, failures = self._parts.line("directory"), "0-0", 0
        while True:
            try:
                reply = await line.call(
                    "XREAD", "BLOCK", 30_000, "STREAMS", self._parts.names.lanes, last,
                    patience_s=35.0,
                )  # fmt: skip
                failures = 0
            except QueueUnavailable:
                # Redis may come back empty: names announced again are served already.
                last = "0-0"
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1
                continue
            for entry_id, fields in reply[0][1] if reply else []:
                last = entry_id.decode()
                self.serve(fields[1].decode())

    def serve(self, model: str) -> None:
        """Start serving a lane, once."""
        if model in self._lanes or self._tasks is None:
            return
        served = self._lanes[model] = self._build(model)
        self._start(served.committer.run())
        self._start(served.leases.run())
        self._start(served.roller.run())
        for lane_class in LaneClass:
            served.reading.append(self._start(self._reader(served, lane_class).run()))
        log.info("lane_served model=%s", model)

    def _build(self, model: str) -> ServedLane:
        settings, parts = self._settings, self._parts
        names = parts.names.lane(model)
        roller = Roller(
            parts.line("roll"),
            parts.line("roll-accounts"),
            parts.names,
            model,
            owner=settings.worker_id,
        )
        committer = Committer(
            parts.line("commit"),
            names,
            self._clock,
            on_done=lambda pack: leases.release(pack),  # noqa: PLW0108 (made below)
            on_recorded=roller.notice,
        )
        calls = Calls(
            self._permits,
            parts.adapter_of,
            count_in=parts.count_in,
            max_tries=settings.max_tries,
        )
        lane = Lane(
            deployments_of=lambda merge: parts.deployments_of(model, merge),
            permits=self._permits,
            dispatcher=Dispatcher(calls, committer, learned=parts.learned, storing=parts.storing),
            marks=Marks(parts.line("marks"), names),
            bounds=LaneBounds(
                linger_s=settings.linger_s, max_waiting_items=settings.max_leased_items
            ),
            spawn=self._spawn,
        )
        lane.recall = parts.recall
        leases = Leases(
            parts.line("lease"),
            names,
            self._clock,
            consumer=settings.worker_id,
            lease_s=settings.lease_s,
            on_taken_over=lambda taken: self._on_read(served, taken),
        )
        hand_back = HandBack(parts.line("hand-back"), names, consumer=settings.worker_id)
        suspects = Suspects(hand_back, leases, admit=lane.admit, fail=lane.dispatcher.fail)
        served = ServedLane(names, lane, committer, leases, hand_back, suspects, roller)
        return served

    def _reader(self, served: ServedLane, lane_class: LaneClass) -> Reader:
        return Reader(
            self._parts.line("read"),
            served.names,
            lane_class,
            consumer=self._settings.worker_id,
            has_room=lambda: _has_room(served, lane_class),
            on_read=lambda entries: self._on_read(served, entries),
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._tasks is None:
            work.close()
            raise RuntimeError("the pool is not running")
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something, unless the pool is ending: what it is about is somebody else's soon."""
        if self._is_stopping:
            work.close()
            return
        try:
            self._start(work)
        except RuntimeError:  # the group takes nothing more: one of its tasks has failed
            work.close()

    def _on_read(self, served: ServedLane, entries: list[Delivery]) -> None:
        for entry in entries:
            pack = self._held(served, entry)
            if pack is None:
                continue
            if pack.deliveries:
                self._spawn(self._admit_redelivered(served, pack))
            else:
                served.leases.hold(pack)
                served.lane.admit(pack)

    def _held(self, served: ServedLane, entry: Delivery) -> HeldPack | None:
        """Read an entry, unless we hold it already; one we cannot read is left to others."""
        lane_class, entry_id, flat, earlier = entry
        if served.leases.knows(lane_class, entry_id.decode()) or not flat:
            return None
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        now = asyncio.get_running_loop().time()
        try:
            return held_pack(
                lane_class,
                entry_id,
                fields,
                arrived_at=self._clock.instant(int(fields[b"t"]), now=now),
                earlier_deliveries=earlier,
            )
        except (PoolError, ValueError, LookupError) as unreadable:
            log.error("pack_unreadable entry=%s error=%s", entry_id, type(unreadable).__name__)  # noqa: TRY400
            return None

    async def _admit_redelivered(self, served: ServedLane, pack: HeldPack) -> None:
        """Admit what is still open of a pack that somebody else had; take a dangerous one apart."""
        served.leases.hold(pack)
        await served.lane.marks.read([pack])
        if pack.is_lost:
            return
        if not pack.open:
            served.leases.release(pack)
            with suppress(QueueUnavailable):
                await served.hand_back.untouched(pack.lane_class, [pack.entry_id])
        elif pack.deliveries < MAX_DELIVERIES:
            served.lane.admit(pack)
        elif len(pack.numbers) > 1:
            served.leases.release(pack)
            with suppress(QueueUnavailable):
                await served.hand_back.one_by_one(pack.lane_class, pack.entry_id)
        else:
            await served.suspects.attend(pack)


async def _has_room(served: ServedLane, lane_class: LaneClass) -> None:
    # Before the first beat the clock is unknown: old work would look as if it had just arrived.
    await served.leases.has_beaten()
    await served.lane.has_room(lane_class)


async def _hand_back_untouched(served: ServedLane) -> None:
    for lane_class in LaneClass:
        packs = [pack for pack in served.leases.held(lane_class) if not pack.is_begun]
        for pack in packs:
            pack.is_lost = True  # one still being admitted is not sent from here any more
            served.leases.release(pack)
        if packs:
            await served.hand_back.untouched(lane_class, [pack.entry_id for pack in packs])
