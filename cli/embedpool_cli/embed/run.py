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
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from embedpool_cli.embed.asking import Asking, Asks, Request, Stopped
from embedpool_cli.embed.budget import Budget, dollars
from embedpool_cli.embed.gate import Gate
from embedpool_cli.embed.journal import Progress
from embedpool_cli.embed.pace import Pace
from embedpool_cli.embed.packing import Packer
from embedpool_cli.embed.read_ahead import ReadAhead
from embedpool_cli.embed.rows import Block, Done, Item
from embedpool_cli.embed.store import Store
from embedpool_cli.embed.trials import Trial
from embedpool_cli.embed.window import Window

MIN_WINDOW_ROWS: Final = 2_048
MAX_WINDOW_BYTES: Final = 256 * 1024 * 1024
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
        self.share_before: float = 0.0  # … when the first row was read
        self._store = store
        self._gate = Gate(Pace(terms.concurrency))
        self._window = Window(max_rows=terms.window_rows, max_bytes=MAX_WINDOW_BYTES)
        self._packer = Packer(max_items=terms.batch, max_bytes=MAX_REQUEST_BYTES)
        self._asking = Asking(
            pool, self._gate, budget, self._look, dtype=terms.dtype, patience_s=terms.patience_s
        )
        self._asking.dims = store.progress.dims
        self._turn = 0
        self._rows_read = store.progress.rows_in
        self._open = 0  # requests that have not ended
        self._why_no_more = ""
        self._settled = asyncio.Event()  # set whenever money that was set aside is free
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

    @property
    def trouble(self) -> str:
        """Why it stands still, if it does."""
        return self._asking.trouble

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
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            ahead.close()
            self._keep_rest()
        if self._why_no_more:
            raise Stopped(self._why_no_more)
        if self._rows_read != self._store.progress.rows_in:
            kept = self._store.progress.rows_in
            raise Stopped(f"{self._rows_read:,} rows were read and {kept:,} are accounted for")

    async def _feed(self, ahead: ReadAhead, requests: asyncio.TaskGroup) -> None:
        async for block in ahead.blocks():
            if not self._turn:
                self.source_share = self.share_before = block.source_share
            self._rows_read = block.first_row + len(block)
            while not self._window.has_room_for(block):
                await self._send(self._packer.rest(), requests)
                self._kept.clear()
                if not self._window.has_room_for(block):
                    await self._kept.wait()
            await self._send(self._packer.add(self._window.add(block)), requests)
            self._look()
            if self._why_no_more:
                return
        await self._send(self._packer.rest(), requests)

    async def _send(self, packed: Iterator[list[Item]], requests: asyncio.TaskGroup) -> None:
        for items in packed:
            self._turn += 1
            request = Request(self._turn, items, Trial(len(items)))
            if self._why_no_more or not await self._is_affordable(request.size_bytes):
                return
            self._open += 1
            reserved = self._asking.budget.reserve(request.size_bytes)
            task = requests.create_task(self._asking.embed(request))
            task.add_done_callback(partial(self._ended, reserved))

    async def _is_affordable(self, size_bytes: int) -> bool:
        """Wait until a request can be paid; if that will not come, stop feeding."""
        budget = self._asking.budget
        while not budget.has_room_for(size_bytes):
            if not self._open:
                self._why_no_more = f"--max-usd is reached: {dollars(budget.spent_pico_usd)} spent"
                return False
            self._settled.clear()
            await self._settled.wait()
        return True

    def _ended(self, reserved_pico_usd: int, _: asyncio.Task[None]) -> None:
        self._open -= 1
        self._asking.budget.settle(reserved_pico_usd)
        self._settled.set()

    def _look(self) -> None:
        if self._window.has_finished:
            self._finished.set()

    async def _keep(self) -> None:
        while True:
            if done := self._window.take_finished():
                await self._add(done)
                self._kept.set()
            elif self._is_over:
                return
            else:
                self._finished.clear()
                await self._finished.wait()

    async def _add(self, done: Sequence[Done]) -> None:
        adding = self._writer.submit(self._store.add, done, self.progress)
        # Shielded, because rows that have left the window must be kept before any after them.
        await asyncio.shield(asyncio.wrap_future(adding))
        self.source_share = done[-1].block.source_share
        if self._asking.dims is not None:
            self._window.expect_vectors(self._asking.dims)

    def _keep_rest(self) -> None:
        try:
            if rest := self._window.take_rest():
                self._writer.submit(self._store.add, rest, self.progress).result()
        finally:
            self._writer.shutdown()


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
