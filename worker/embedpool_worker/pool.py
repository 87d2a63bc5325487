"""The pool of one worker process: every lane it serves, from announcement to graceful stop.

Invariants:
- A lane is served from its first announcement on; lanes announced earlier are found at start.
- A graceful stop stops reading first, hands untouched work back, and finishes what is in flight.
- Any task that fails ends the process; its supervisor hands its work over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from random import random
from typing import Any

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_worker.clock import RedisClock
from embedpool_worker.permits import Permits
from embedpool_worker.pool_parts import PoolParts, PoolSettings
from embedpool_worker.served_lane import ServedLane
from embedpool_worker.shared_keys import SharedKeys

log = logging.getLogger(__name__)


class Pool:
    """Serves every announced lane until told to stop."""

    def __init__(self, settings: PoolSettings, parts: PoolParts) -> None:
        """Prepare; `run` connects."""
        self._settings = settings
        self._parts = parts
        self._shared_keys = SharedKeys(
            parts.line("keys"), parts.names, worker_id=settings.worker_id
        )
        self._permits = Permits(
            slots_per_key=settings.slots_per_key,
            policy=settings.key_policy,
            shared=self._shared_keys,
        )
        self._clock = RedisClock()
        self._lanes: dict[str, ServedLane] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._reading: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def run(self) -> None:
        """Serve until `stop` has finished; raises what any of its tasks raised."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._following = self._start(self._follow_lanes())
            self._start(self._shared_keys.run())

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
        for reading in self._reading:
            reading.cancel()
        for served in lanes:
            served.lane.clear()
        with suppress(TimeoutError, QueueUnavailable):
            async with asyncio.timeout(grace_s):
                await asyncio.gather(*(served.hand_back_untouched() for served in lanes))
                await asyncio.gather(*(served.lane.quiet() for served in lanes))
                await asyncio.gather(*(served.committer.drained() for served in lanes))
        with suppress(TimeoutError, QueueUnavailable):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(served.hand_back_everything() for served in lanes))
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

    def lane(self, model: str) -> ServedLane:
        """The lane of a model, served from now on; raises `RuntimeError` unless the pool runs."""
        self.serve(model)
        if model not in self._lanes:
            raise RuntimeError("the pool is not running")
        return self._lanes[model]

    def serve(self, model: str) -> None:
        """Start serving a lane, once."""
        if model in self._lanes or self._tasks is None or self._is_stopping:
            return
        served = self._lanes[model] = ServedLane(
            model,
            self._settings,
            self._parts,
            permits=self._permits,
            clock=self._clock,
            spawn=self._spawn,
        )
        for chore in served.chores():
            self._start(chore)
        self._reading += [self._start(reading) for reading in served.reading()]
        log.info("lane_served model=%s", model)

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
