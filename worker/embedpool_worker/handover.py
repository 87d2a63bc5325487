"""Puts leased entries back into their lane, for this worker or for one that died."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, LaneNames, Names
from embedpool_shared.redis import Line, NoSuchGroup
from embedpool_shared.scripts import script
from embedpool_worker.held import HeldJob

MOST_AT_ONCE: Final = 200
DEAD_LETTERS_KEPT: Final = 1_000
BEGUN_KEPT_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be put back, and how."""

    added: int = 0  # deliveries to count on top
    is_single: bool = False  # one job per entry
    most: int = MOST_AT_ONCE
    entries: Sequence[str] = ()  # none: all that the consumer holds


class HandBack:
    """Owns one lane's line for parting with entries; its users take turns."""

    def __init__(self, line: Line, names: LaneNames, *, consumer: str) -> None:
        """Part with what `consumer` holds, and with nobody else's."""
        self._line = line
        self._names = names
        self._consumer = consumer
        self._turn = asyncio.Lock()

    async def untouched(self, lane_class: LaneClass, entries: Sequence[str]) -> None:
        """Return entries; they count as never delivered, and one without open jobs just ends."""
        await self._part_with(lane_class, entries, is_single=False)

    async def one_by_one(self, lane_class: LaneClass, entry: str) -> None:
        """Return an entry delivered too often as one entry per job, so only one of them is bad."""
        await self._part_with(lane_class, [entry], is_single=True)

    async def everything(self, lane_class: LaneClass) -> None:
        """Return all that is pending for the consumer, seen or not, and delete it."""
        async with self._turn:
            await put_back_all(
                self._line, self._names, lane_class, consumer=self._consumer, added=0
            )

    async def begin(self, job: HeldJob) -> int:
        """Count a try of a job that may end this worker, before it begins."""
        name = self._names.begun(job.pack.pack_id)
        async with self._turn:
            tries, _ = await self._line.call_all(
                [("HINCRBY", name, job.job.number, 1), ("PEXPIRE", name, BEGUN_KEPT_MS)]
            )
        return int(tries)

    async def bury(self, job: HeldJob) -> None:
        """Remember a job that is given up, without its text."""
        async with self._turn:
            await self._line.call(
                "XADD", self._names.dead, "MAXLEN", DEAD_LETTERS_KEPT, "*",
                "id", job.pack.pack_id, "n", job.job.number, "model", job.merge.model,
                "items", len(job.job.inputs), "bytes", job.job.size_bytes,
            )  # fmt: skip

    async def _part_with(
        self, lane_class: LaneClass, entries: Sequence[str], *, is_single: bool
    ) -> None:
        async with self._turn:
            order = _Order(is_single=is_single, entries=entries)
            await _put_back(self._line, self._names, lane_class, self._consumer, order)


async def hand_over(
    line: Line, names: Names, *, consumer: str, directory: Line | None = None
) -> int:
    """Return all that a dead worker held, in every lane; count the entries.

    `directory` leads to the list of lanes where that is not on the lanes' own Redis.
    """
    total = 0
    for _, fields in await (directory or line).call("XRANGE", names.lanes, "-", "+") or []:
        lane = names.lane(fields[1].decode())
        for lane_class in LaneClass:
            total += await put_back_all(line, lane, lane_class, consumer=consumer, added=1)
    return total


async def put_back_all(
    line: Line, names: LaneNames, lane_class: LaneClass, *, consumer: str, added: int
) -> int:
    """Return all that a consumer holds in one stream, delete the consumer, count the entries."""
    total, left = 0, 1
    while left:
        try:
            done, left = await _put_back(line, names, lane_class, consumer, _Order(added=added))
        except NoSuchGroup:
            return total
        total += done
    return total


async def drop_consumer(
    line: Line, names: LaneNames, lane_class: LaneClass, *, consumer: str
) -> None:
    """Delete a consumer, unless it holds something by then."""
    with suppress(NoSuchGroup):
        await _put_back(line, names, lane_class, consumer, _Order(most=0))


async def _put_back(
    line: Line, names: LaneNames, lane_class: LaneClass, consumer: str, order: _Order
) -> tuple[int, int]:
    done, left = await line.run(
        script("handover"),
        [names.stream(lane_class)],
        [
            GROUP, consumer, names.tag,
            order.added, int(order.is_single), order.most, *order.entries,
        ],
    )  # fmt: skip
    return done, left
