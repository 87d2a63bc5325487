"""The lanes this process has used: an outbox and an inbox each, opened at first use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from embedpool_api.inbox import Inbox
from embedpool_api.outbox import Outbox, QueueBounds
from embedpool_api.posted import Answer, PostedJob
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import Job, LaneClass, MergeKey
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script


@dataclass(slots=True, eq=False)
class OpenLane:
    """One lane's two ends in this process."""

    outbox: Outbox
    inbox: Inbox


class Lanes:
    """Posts requests and hands out their answers."""

    def __init__(
        self,
        names: Names,
        line: Callable[[str], Line],
        *,
        api_id: str,
        bounds: QueueBounds,
        seal: Callable[[bytes, str], bytes],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`line(role)` makes a connection of its own; `spawn` runs a task as long as we live.

        `seal(credential, place)` encrypts a caller's own provider key for one job alone.
        """
        self._names = names
        self._line = line
        self._api_id = api_id
        self._bounds = bounds
        self._seal = seal
        self._spawn = spawn
        self._open: dict[str, OpenLane] = {}
        self._announcing: set[str] = set()

    def is_away(self, model: str) -> bool:
        """Tell whether the lane's last word from Redis was none."""
        lane = self._open.get(model)
        return lane is not None and lane.outbox.is_away

    def post(
        self,
        answer: Answer,
        model: str,
        lane_class: LaneClass,
        merge: MergeKey,
        jobs: Sequence[Job],
        *,
        credential: bytes | None = None,
    ) -> None:
        """Send a request's jobs on their way; `answer` resolves when all have replied."""
        outbox = (self._open.get(model) or self._open_lane(model)).outbox
        for position, job in enumerate(jobs):
            posted = PostedJob(answer, position, job, merge, credential)
            answer.jobs.append(posted)
            outbox.post(posted, lane_class)

    def abandon(self, model: str, answer: Answer) -> None:
        """Take an answer's unsent work away: its caller has gone, or was told something else."""
        lane = self._open.get(model)
        if lane:
            for posted in answer.jobs:
                lane.outbox.abandon(posted)

    def repeat_all(self) -> None:
        """Redis may have forgotten: enqueue all that is unanswered again, announce every lane."""
        for model, lane in self._open.items():
            lane.outbox.repeat_all()
            self._announce(model)

    def _open_lane(self, model: str) -> OpenLane:
        names = self._names.lane(model)
        outbox = Outbox(
            self._line("enqueue"),
            names,
            api_id=self._api_id,
            bounds=self._bounds,
            seal=self._seal,
            on_created=lambda: self._announce(model),
        )
        inbox = Inbox(
            self._line("inbox"),
            names.inbox(self._api_id),
            outbox.packs,
            on_broken=outbox.repeat_all,
        )
        lane = self._open[model] = OpenLane(outbox, inbox)
        self._spawn(outbox.run())
        self._spawn(inbox.run())
        self._announce(model)
        return lane

    def _announce(self, model: str) -> None:
        if model not in self._announcing:
            self._announcing.add(model)
            self._spawn(self._tell_workers(model))

    async def _tell_workers(self, model: str) -> None:
        """Name the lane to every worker, now and later; Redis away is not the end of it."""
        line = self._line("announce")
        names = self._names
        try:
            while True:
                with suppress(QueueUnavailable):
                    await line.run(script("announce"), [names.known_lanes, names.lanes], [model])
                    return
                await asyncio.sleep(0.5)
        finally:
            self._announcing.discard(model)
            await line.close()
