"""Lets requests start, the earliest first, as many at a time as the pace allows."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count

from embedpool_cli.embed.pace import Pace


class Gate:
    """One gate for all requests of a run."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.under_way = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    async def enter(self, turn: int) -> int:
        """Wait for room; a lower `turn` goes first. Return the pace's era."""
        if self._waiting or not self.pace.has_room(self.under_way):
            admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heappush(self._waiting, (turn, next(self._order), admitted))
            await admitted
        else:
            self.under_way += 1
        return self.pace.era

    def leave(self) -> None:
        """Make room."""
        self.under_way -= 1
        while self._waiting and self.pace.has_room(self.under_way):
            admitted = heappop(self._waiting)[2]
            if not admitted.done():
                self.under_way += 1
                admitted.set_result(None)
