"""Reads one stream of a lane: waits for room, then for packs.

A read that Redis answered onto a dead connection leaves entries pending for a consumer that never
saw them, so after every reconnect the reader asks for its own pending entries first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import random
from typing import Any, Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, LaneNames
from embedpool_shared.redis import Line, NoSuchGroup, RedisRefused
from embedpool_worker.leases import Delivery

BLOCK_S: Final = 30.0
PACKS_PER_READ: Final = 16


class Reader:
    """Owns the read line of one stream."""

    def __init__(
        self,
        line: Line,
        names: LaneNames,
        lane_class: LaneClass,
        *,
        consumer: str,
        has_room: Callable[[], Awaitable[None]],
        on_read: Callable[[list[Delivery]], None],
    ) -> None:
        """Read when `has_room()` returns; hand what arrives to `on_read`."""
        self._line = line
        self._stream = names.stream(lane_class)
        self._lane_class = lane_class
        self._consumer = consumer
        self._has_room = has_room
        self._on_read = on_read

    async def run(self) -> None:
        """Read for ever."""
        failures = 0
        start = "0"  # own pending entries; ">" is what nobody has seen
        while True:
            try:
                await self._has_room()
                entries = await self._read(start)
                failures = 0
                start = ">" if start == ">" or not entries else entries[-1][0].decode()
                # A deleted entry that was still pending comes back without fields.
                self._on_read([(self._lane_class, e, f, 0) for e, f in entries if f])
            except NoSuchGroup:
                await self._create_group()
            except QueueUnavailable:
                start = "0"
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1

    async def _read(self, start: str) -> list[Any]:
        block = () if start != ">" else ("BLOCK", int(BLOCK_S * 1_000))
        reply = await self._line.call(
            "XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", PACKS_PER_READ, *block,
            "STREAMS", self._stream, start,
            patience_s=BLOCK_S + 5.0,
        )  # fmt: skip
        return reply[0][1] if reply else []

    async def _create_group(self) -> None:
        try:
            await self._line.call("XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM")
        except RedisRefused as refused:
            if "BUSYGROUP" not in refused.message:
                await asyncio.sleep(pause_s(3, draw=random()))
        except QueueUnavailable:
            return
