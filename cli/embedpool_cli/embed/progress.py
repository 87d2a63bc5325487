"""Shows a run while it lasts: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TextIO

from embedpool_cli.embed import meter
from embedpool_cli.embed.meter import Reading
from embedpool_cli.tables import printable

BAR_EVERY_S: Final = 0.2
LINE_EVERY_S: Final = 10.0
ERASE: Final = "\r\x1b[K"

Read = Callable[[float], Reading]
"""Looks at a run that has lasted so many seconds."""


@asynccontextmanager
async def shown(read: Read, errors: TextIO) -> AsyncIterator[None]:
    """Show what `read` says while the block lasts."""
    began_at = asyncio.get_running_loop().time()
    show = _bar if errors.isatty() else _line
    showing = asyncio.create_task(show(lambda: read(_since(began_at)), errors))
    try:
        yield
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


def _since(began_at: float) -> float:
    return asyncio.get_running_loop().time() - began_at


async def _bar(read: Callable[[], Reading], errors: TextIO) -> None:
    try:
        while True:
            width = shutil.get_terminal_size().columns - 1
            print(f"{ERASE}{printable(meter.bar(read(), width))}", end="", file=errors, flush=True)
            await asyncio.sleep(BAR_EVERY_S)
    finally:
        print(ERASE, end="", file=errors, flush=True)


async def _line(read: Callable[[], Reading], errors: TextIO) -> None:
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        print(f"embedpool: {printable(meter.line(read()))}", file=errors, flush=True)
