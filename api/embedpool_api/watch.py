"""Watches over waiting requests: their clients, their acceptance, their deadlines.

Most requests are answered before their watch begins, and then it has cost next to nothing: one
timer serves all that wait to begin.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from starlette.types import Receive

from embedpool_api.outbox import queue_unavailable
from embedpool_api.passage import ClientDisconnected
from embedpool_api.posted import Answer
from embedpool_shared.errors import DeadlineExceeded

BEGINS_AFTER_S: Final = 0.1
TIMER_GRAIN_S: Final = 0.001
"""uvloop's timers and its clock count milliseconds."""
ACCEPTED_WITHIN_S: Final = 0.9
"""Redis has to confirm a request by then; without Redis a caller is told within a second."""


class Watch:
    """Fails an answer when its client goes, when Redis does not confirm it, or at its deadline."""

    __slots__ = ("_answer", "_receive", "_task", "begins_at", "is_over")

    def __init__(self, answer: Answer, receive: Receive, *, begins_at: float) -> None:
        """Begin when told to."""
        self.begins_at = begins_at
        self.is_over = False
        self._answer: Answer | None = answer
        self._receive: Receive | None = receive
        self._task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """The answer is there: hold on to nothing of it."""
        self.is_over = True
        self._answer = self._receive = None
        if self._task:
            self._task.cancel()

    def begin(self) -> None:
        """Look, unless the answer came first."""
        if self._answer is not None and self._receive is not None:
            self._task = asyncio.create_task(self._run(self._answer, self._receive))

    async def _run(self, answer: Answer, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        accepted_by = loop.time() + ACCEPTED_WITHIN_S - BEGINS_AFTER_S
        gone = asyncio.ensure_future(_client_is_gone(receive))
        try:
            await asyncio.wait({gone}, timeout=min(accepted_by, answer.give_up_at) - loop.time())
            if not gone.done() and not answer.is_accepted:
                answer.fail(queue_unavailable("The queue did not confirm the request"))
                return
            await asyncio.wait({gone}, timeout=answer.give_up_at - loop.time())
            answer.fail(ClientDisconnected() if gone.done() else _too_late())
        finally:
            gone.cancel()


class Patrol:
    """Begins watches, each a moment after its request was posted."""

    def __init__(self) -> None:
        """Watch over nobody."""
        self._waiting: deque[Watch] = deque()  # in the order in which they begin
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: Answer, receive: Receive) -> Watch:
        """Watch over an answer from a moment on, or at its deadline if that is earlier."""
        loop = asyncio.get_running_loop()
        begins_at = loop.time() + BEGINS_AFTER_S
        watch = Watch(answer, receive, begins_at=begins_at)
        if answer.give_up_at < begins_at:
            loop.call_at(answer.give_up_at, watch.begin)
            return watch
        while self._waiting and self._waiting[0].is_over:
            self._waiting.popleft()
        self._waiting.append(watch)
        if self._timer is None:
            self._timer = loop.call_at(begins_at, self._begin_some)
        return watch

    def _begin_some(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and (
            self._waiting[0].is_over or self._waiting[0].begins_at <= loop.time() + TIMER_GRAIN_S
        ):
            self._waiting.popleft().begin()
        next_at = self._waiting[0].begins_at if self._waiting else None
        self._timer = None if next_at is None else loop.call_at(next_at, self._begin_some)


async def _client_is_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "No answer within the request's time; allow more, or send less at once", code="timeout"
    )
