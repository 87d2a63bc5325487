"""Runs a request's coroutine without turns of the loop: it begins at once, and goes on when told.

A task would wait for the loop twice, to begin and once more when its answer is there, and costs
more to make than the rest of a lone request's way in.

Invariants:
- What is awaited without a word from anybody wakes an errand as it would wake a task.
- An errand told to go on while it runs, or before what it awaits is there, does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

GO_ON: Final = "embedpool.go_on"
"""Key of the scope: tells a request's errand to go on; absent where a task runs it."""


class Errand:
    """A coroutine on its way; no task, so nothing in it may ask for the current one."""

    __slots__ = ("_awaited", "_is_cancelled", "_loop", "_on_end", "_work")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, on_end: Callable[[Errand], object]
    ) -> None:
        """Wait to begin; `on_end` hears when it is over."""
        self._loop = loop
        self._on_end = on_end
        self._work: Coroutine[Any, Any, None] | None = None
        self._awaited: asyncio.Future[Any] | None = None
        self._is_cancelled = False

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as far as it goes."""
        self._work = work
        self._step()

    def go_on(self) -> None:
        """Go on at once, if what is awaited is there."""
        if self._awaited is not None and self._awaited.done():
            self._step()

    def cancel(self, msg: object = None) -> None:
        """End it, as `Task.cancel` would."""
        if self._awaited is None or not self._awaited.cancel(msg):
            self._is_cancelled = True

    def _step(self) -> None:
        work, self._awaited = self._work, None
        if work is None:
            return
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                awaited = work.throw(asyncio.CancelledError())
            else:
                awaited = work.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._end()
        except Exception as error:  # noqa: BLE001 (whoever told it to go on has no part in it)
            self._end()
            self._loop.call_exception_handler({"message": "an errand failed", "exception": error})
        else:
            self._wait_for(awaited)

    def _wait_for(self, awaited: Any) -> None:
        if awaited is None:  # it only lets others pass
            self._loop.call_soon(self._step)
            return
        awaited._asyncio_future_blocking = False  # as every task says to a future it waits for
        self._awaited = awaited
        awaited.add_done_callback(self._wake)

    def _wake(self, awaited: asyncio.Future[Any]) -> None:
        if awaited is self._awaited:
            self._step()

    def _end(self) -> None:
        self._work = None
        self._on_end(self)
