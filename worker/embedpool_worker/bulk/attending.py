"""Sees to every batch while this process leads: a few run, the others wait in order.

Those that were cancelled do not wait: they send nothing, and somebody wants to see them end.

Invariants:
- A batch has one run at most, and one unit of attendance at most in the queue or here.
- A crash of a run loses nothing: it begins again from what is booked, and gives up only where it
  never comes further.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

log = logging.getLogger(__name__)

MAX_RUNNING: Final = 8
MAX_HURRIED: Final = 8
"""Of those that run out of turn."""
UNIT_S: Final = 30.0
"""How long one attendance waits for the end of its batch before another one takes its place."""

Run = Callable[[str], Coroutine[Any, Any, None]]
"""Brings a batch to its end; raises nothing but its cancellation."""
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Attendants:
    """The batches of one term of leadership."""

    def __init__(self, run: Run, spawn: Spawn) -> None:
        """Prepare; `spawn` starts a task that ends with the term."""
        self._run = run
        self._spawn = spawn
        self._attended: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._hurried: set[str] = set()  # of the running ones
        self._waiting: list[tuple[float, str]] = []  # by when they were created
        self._ended: dict[str, asyncio.Event] = {}

    @property
    def running(self) -> int:
        """How many batches run."""
        return len(self._running)

    def knows(self, batch_id: str) -> bool:
        """Whether somebody sees to this batch."""
        return batch_id in self._attended

    async def attend(self, batch_id: str, *, created_at: float) -> bool | None:
        """Let a batch run or wait for its turn; True once it is over, False after a unit of time.

        None where somebody sees to it already.
        """
        if batch_id in self._attended:
            return None
        self._attended.add(batch_id)
        try:
            if batch_id not in self._ended:
                self._ended[batch_id] = asyncio.Event()
                insort(self._waiting, (created_at, batch_id))
                self._start_some()
            async with asyncio.timeout(UNIT_S):
                await self._ended[batch_id].wait()
        except TimeoutError:
            return False
        finally:
            self._attended.discard(batch_id)
        return True

    def hurry(self, batch_id: str) -> None:
        """Let a batch run out of turn, unless it runs or too many do; asked again, it may."""
        if batch_id in self._running or len(self._hurried) == MAX_HURRIED:
            return
        self._waiting = [waiting for waiting in self._waiting if waiting[1] != batch_id]
        self._ended.setdefault(batch_id, asyncio.Event())
        self._hurried.add(batch_id)
        self._start(batch_id)

    def _start_some(self) -> None:
        while self._waiting and len(self._running) - len(self._hurried) < MAX_RUNNING:
            _, batch_id = self._waiting.pop(0)
            self._start(batch_id)

    def _start(self, batch_id: str) -> None:
        run = self._run(batch_id)
        try:
            task = self._spawn(run)
        except RuntimeError:  # the term is over: its tasks end, and no others begin
            run.close()
            return
        self._running[batch_id] = task
        task.add_done_callback(partial(self._end, batch_id))

    def _end(self, batch_id: str, _: asyncio.Task[None]) -> None:
        del self._running[batch_id]
        self._hurried.discard(batch_id)
        self._ended.pop(batch_id).set()
        self._start_some()
