"""Watches over one waiting request: its client, its acceptance, its deadline.

Most requests are answered before the watch begins, and then it has cost one timer.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive

from embedpool_api.middleware import ClientDisconnected
from embedpool_api.outbox import queue_unavailable
from embedpool_api.posted import Answer
from embedpool_shared.errors import DeadlineExceeded

BEGINS_AFTER_S: Final = 0.1
ACCEPTED_WITHIN_S: Final = 0.9
"""Redis has to confirm a request by then; without Redis a caller is told within a second."""


class Watch:
    """Fails an answer when its client goes, when Redis does not confirm it, or at its deadline."""

    __slots__ = ("_answer", "_give_up_at", "_receive", "_task", "_timer")

    def __init__(self, answer: Answer, receive: Receive, *, give_up_at: float) -> None:
        """Begin in a moment, or at the deadline if that is earlier."""
        self._answer = answer
        self._receive = receive
        self._give_up_at = give_up_at
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        begins_at = min(loop.time() + BEGINS_AFTER_S, give_up_at)
        self._timer = loop.call_at(begins_at, self._begin)

    def stop(self) -> None:
        """The answer is there."""
        self._timer.cancel()
        if self._task:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        accepted_by = loop.time() + ACCEPTED_WITHIN_S - BEGINS_AFTER_S
        gone = asyncio.ensure_future(_client_is_gone(self._receive))
        try:
            await asyncio.wait({gone}, timeout=min(accepted_by, self._give_up_at) - loop.time())
            if not gone.done() and not self._answer.is_accepted:
                self._answer.fail(queue_unavailable("The queue did not confirm the request"))
                return
            await asyncio.wait({gone}, timeout=self._give_up_at - loop.time())
            self._answer.fail(ClientDisconnected() if gone.done() else _too_late())
        finally:
            gone.cancel()


async def _client_is_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "No answer within the request's time; allow more, or send less at once", code="timeout"
    )
