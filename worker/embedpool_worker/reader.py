"""Reads one stream of a lane: waits for room, then for packs.

A read that Redis answered onto a dead connection leaves entries pending for a consumer that never
saw them, so after every reconnect the reader looks at its own pending entries first. It looks with
XPENDING: XREADGROUP would count them as delivered once more, and three deliveries are suspicious.
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


async def _others_first() -> None:
    """Let what was just read leave for its provider; asking for more can wait that moment."""
    await asyncio.sleep(0)


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
        own_from: str | None = "-"  # None: every pending entry of our own is known
        while True:
            try:
                await self._has_room()
                if own_from is None:
                    await self._read_new()
                    await _others_first()
                else:
                    own_from = await self._look_at_own(own_from)
                failures = 0
            except NoSuchGroup:
                await self._create_group()
            except QueueUnavailable:
                own_from = "-"
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1

    async def _read_new(self) -> None:
        await self._line.call(
            "XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", PACKS_PER_READ,
            "BLOCK", int(BLOCK_S * 1_000), "STREAMS", self._stream, ">",
            patience_s=BLOCK_S + 5.0, heard=self._hear,
        )  # fmt: skip

    def _hear(self, replies: list[Any]) -> None:
        """Hand packs on at once: whoever awaits has to wait for a turn."""
        (found,) = replies
        if found:
            self._on_read([(self._lane_class, entry, f, 0) for entry, f in found[0][1]])

    async def _look_at_own(self, own_from: str) -> str | None:
        """Hand on what is pending for us from there on; return where to go on, None at the end."""
        pending = await self._line.call(
            "XPENDING", self._stream, GROUP, own_from, "+", PACKS_PER_READ, self._consumer
        )
        if not pending:
            return None
        found = await self._line.call_all(
            [("XRANGE", self._stream, entry_id, entry_id) for entry_id, *_ in pending]
        )
        entries, gone = [], []
        for (entry_id, _, _, deliveries), entry in zip(pending, found, strict=True):
            if entry:
                entries.append((self._lane_class, entry_id, entry[0][1], deliveries - 1))
            else:
                gone.append(entry_id)
        if gone:
            await self._line.call("XACK", self._stream, GROUP, *gone)
        self._on_read(entries)
        return f"({pending[-1][0].decode()}"

    async def _create_group(self) -> None:
        try:
            await self._line.call("XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM")
        except RedisRefused as refused:
            if "BUSYGROUP" not in refused.message:
                await asyncio.sleep(pause_s(3, draw=random()))
        except QueueUnavailable:
            return
