"""Drives rows through: read, gathered into requests, embedded, kept.

Invariants
- Never more than a window of rows is read and not kept: memory is bounded, a slow end slows the
  beginning, and whatever ends us costs at most that window.
- Rows are kept in the order they were read.
- However it ends, what is done before the first unfinished row is kept, unless keeping failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from embedpool_cli.embed.asking import Asking, Asks, Request, Stopped
from embedpool_cli.embed.budget import Budget, dollars
from embedpool_cli.embed.gate import Gate
from embedpool_cli.embed.journal import Progress
from embedpool_cli.embed.pace import Pace
from embedpool_cli.embed.packing import Packer
from embedpool_cli.embed.read_ahead import ReadAhead
from embedpool_cli.embed.rows import Block, Done, Fault, Item
from embedpool_cli.embed.store import Store
from embedpool_cli.embed.trials import Trial
from embedpool_cli.embed.window import Window

MIN_WINDOW_ROWS: Final = 2_048
MAX_WINDOW_BYTES: Final = 64 * 1024 * 1024
MAX_REQUEST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How requests are made."""

    batch: int
    concurrency: int
    patience_s: float
    dtype: str

    @property
    def window_rows(self) -> int:
        """How many rows may be on their way: twice what requests can hold at a time."""
        return max(MIN_WINDOW_ROWS, 2 * self.batch * self.concurrency)


class Run:
    """One start of one order, from the first row not kept yet to the last."""

    def __init__(self, pool: Asks, store: Store, budget: Budget, terms: Terms) -> None:
        self.source_share = 0.0  # of all inputs, what has been read of kept rows
        self._store = store
        self._gate = Gate(Pace(terms.concurrency))
        self._window = Window(max_rows=terms.window_rows, max_bytes=MAX_WINDOW_BYTES)
        self._packer = Packer(max_items=terms.batch, max_bytes=MAX_REQUEST_BYTES)
        self._asking = Asking(
            pool, self._gate, budget, self._end, dtype=terms.dtype, patience_s=terms.patience_s
        )
        self._asking.dims = store.progress.dims
        self._turn = 0
        self._waiting = 0  # requests made and not yet let through
        self._finished = asyncio.Event()
        self._kept = asyncio.Event()
        self._is_over = False
        # One thread, so that what is kept is kept in order whatever is cancelled.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")

    @property
    def progress(self) -> Progress:
        """How far it is."""
        budget = self._asking.budget
        return replace(
            self._store.progress,
            tokens=budget.tokens,
            spent_pico_usd=budget.spent_pico_usd,
            dims=self._asking.dims,
        )

    async def run(self, blocks: Iterator[Block]) -> None:
        """Embed and keep every row; raises `Stopped`, `Broken` and `OSError`."""
        ahead = ReadAhead(blocks)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._keep())
                async with asyncio.TaskGroup() as requests:
                    await self._feed(ahead, requests)
                self._is_over = True
                self._finished.set()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            ahead.close()
            self._keep_rest()

    async def _feed(self, ahead: ReadAhead, requests: asyncio.TaskGroup) -> None:
        async for block in ahead.blocks():
            while not self._window.has_room_for(block):
                await self._send(self._packer.rest(), requests)
                self._kept.clear()
                if not self._window.has_room_for(block):
                    await self._kept.wait()
            fresh = self._window.add(block)
            await self._send(self._packer.add(fresh), requests)
            if self._window.has_finished:
                self._finished.set()
        await self._send(self._packer.rest(), requests)

    async def _send(self, packed: Iterator[list[Item]], requests: asyncio.TaskGroup) -> None:
        for items in packed:
            self._turn += 1
            request = Request(self._turn, items, Trial(len(items)))
            await self._until_affordable(request.size_bytes)
            requests.create_task(self._asking.embed(request))

    async def _until_affordable(self, size_bytes: int) -> None:
        budget = self._asking.budget
        while not budget.has_room_for(size_bytes):
            if not budget.is_waiting_for_a_price:
                spent = dollars(budget.spent_pico_usd)
                raise _BudgetReached(f"--max-usd is reached: {spent} spent")
            self._asking.settled.clear()
            await self._asking.settled.wait()
