"""The slow chores: consumers of dead workers are dropped, ledgers are bounded."""

from __future__ import annotations

from contextlib import suppress

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, LaneNames, Names
from embedpool_shared.redis import Line, RedisRefused
from embedpool_worker.commit import LEDGER_BOUND
from embedpool_worker.handover import drop_consumer


class Housekeeper:
    """What has to be tidied in every lane."""

    def __init__(self, line: Line, directory: Line, names: Names) -> None:
        """Own a line to the lanes, and one to the list of them."""
        self._line = line
        self._directory = directory
        self._names = names

    async def tidy(self, alive: frozenset[str]) -> None:
        """Drop consumers of dead workers that hold nothing, and bound ledgers.

        By length alone, as commits do: while accounts are out of reach no record is too old to be
        rolled up, and a lane that only ever sees cancellations has no commit that bounds it.
        """
        for _, fields in await self._directory.call("XRANGE", self._names.lanes, "-", "+") or []:
            lane = self._names.lane(fields[1].decode())
            await self._line.call("XTRIM", lane.ledger, "MAXLEN", "~", LEDGER_BOUND)
            for lane_class in LaneClass:
                with suppress(RedisRefused):  # a stream nobody has used yet
                    await self._drop_dead_consumers(lane, lane_class, alive)

    async def _drop_dead_consumers(
        self, lane: LaneNames, lane_class: LaneClass, alive: frozenset[str]
    ) -> None:
        for flat in await self._line.call("XINFO", "CONSUMERS", lane.stream(lane_class), GROUP):
            name = dict(zip(flat[::2], flat[1::2], strict=True))[b"name"].decode()
            # One that still holds something is kept: a living sweeper takes that over first.
            if name not in alive:
                await drop_consumer(self._line, lane, lane_class, consumer=name)
