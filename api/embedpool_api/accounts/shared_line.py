"""One Redis connection for the many tasks that seldom need one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.redis import Line
from embedpool_shared.scripts import Script

PATIENCE_S: Final = 2.0
"""How long a caller waits for its turn and its answer together."""


class SharedLine:
    """Lets one task at a time use a line; whoever would wait too long is told so."""

    def __init__(self, line: Line, *, patience_s: float = PATIENCE_S) -> None:
        """Prepare; the first command connects."""
        self._line = line
        self._patience_s = patience_s
        self._turn = asyncio.Lock()

    async def call_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send several commands in one write; raises as `Line` does."""
        try:
            async with asyncio.timeout(self._patience_s), self._turn:
                return await self._line.call_all(commands)
        except TimeoutError:
            raise _silent() from None

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script; raises as `Line` does."""
        try:
            async with asyncio.timeout(self._patience_s), self._turn:
                return await self._line.run(script, keys, arguments)
        except TimeoutError:
            raise _silent() from None

    async def close(self) -> None:
        """Hang up."""
        await self._line.close()


def _silent() -> QueueUnavailable:
    return QueueUnavailable("Redis does not answer in time", retry_after_s=1.0)
