"""One write to several accounts: a script for each of them, and who hears the replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from embedpool_api.outbox import queue_unavailable
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script

PATIENCE_S: Final = 0.75


class Hearing:
    """Hands replies on once: as they arrive, or when the line has made good what was wrong."""

    def __init__(self, hear: Callable[[Sequence[Any]], None]) -> None:
        """Let `hear` have them."""
        self.is_over = False
        self._hear = hear

    def __call__(self, replies: Sequence[Any]) -> None:
        """Take replies."""
        if not self.is_over:
            self.is_over = True
            self._hear(replies)


async def run_for_accounts(
    line: Line,
    name: str,
    calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
    *,
    heard: Callable[[list[Any]], None] | None = None,
) -> list[Any]:
    """Run a script for several accounts; all of it within `PATIENCE_S`, connecting included.

    Raises `QueueUnavailable`; what Redis refuses for one account is among the replies.
    """
    if not calls:
        return []
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await line.run_all(script(name), calls, patience_s=PATIENCE_S, heard=heard)
    except TimeoutError:
        raise limits_unknown() from None


def limits_unknown() -> QueueUnavailable:
    """Say that nobody can be let in now."""
    return queue_unavailable("Limits cannot be checked now")
