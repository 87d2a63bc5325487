"""Reads blocks in a thread, a little ahead of those who take them, and no further."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Final

from embedpool_cli.embed.rows import Block

BLOCKS_AHEAD: Final = 2

_End = BaseException | None


class ReadAhead:
    """Takes blocks out of an iterator, in order."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        """Begin to read."""
        self._blocks = blocks
        self._loop = asyncio.get_running_loop()
        self._read: asyncio.Queue[Block | _End] = asyncio.Queue()
        self._free = threading.Semaphore(BLOCKS_AHEAD)
        self._is_over = False
        # A daemon: nobody who presses Ctrl-C waits for a line from standard input.
        threading.Thread(target=self._work, name="reader", daemon=True).start()

    async def blocks(self) -> AsyncIterator[Block]:
        """Yield every block; raises what the reading raises."""
        while True:
            found = await self._read.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                return
            self._free.release()
            yield found

    def close(self) -> None:
        """Read no more."""
        self._is_over = True
        self._free.release()

    def _work(self) -> None:
        end: _End = None
        try:
            for block in self._blocks:
                self._free.acquire()
                if self._is_over:
                    return
                self._tell(block)
        except Exception as error:  # noqa: BLE001 (it is raised where the blocks are taken)
            end = error
        self._tell(end)

    def _tell(self, found: Block | _End) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits
            self._loop.call_soon_threadsafe(self._read.put_nowait, found)
