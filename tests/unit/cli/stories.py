"""Small programs under a supervisor, and what they tell while they live."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Final, Self

from embedpool_cli.children import Launch

PROGRAM: Final = """
import os, signal, sys
name, fd, *signals = sys.argv[1:]
tell = lambda what: os.write(int(fd), f"{name} {what}\\n".encode())
def down(number, _):
    tell(signal.Signals(number).name)
    os._exit(0)
for one in signals:
    signal.signal(getattr(signal, one), down)
tell(f"up {os.getpid()}")
while True:
    signal.pause()
"""
"""Tells that it is up, and which of the signals it listens to ended it."""


class Story:
    """What children tell, line by line, through a pipe they inherit."""

    def __init__(self) -> None:
        self._read_fd, self.fd = os.pipe()
        self._reader = asyncio.StreamReader()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(self._read_fd, "rb")
        protocol = asyncio.StreamReaderProtocol(self._reader)
        self._transport, _ = await loop.connect_read_pipe(lambda: protocol, pipe)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._transport.close()
        with suppress(OSError):
            os.close(self.fd)

    async def line(self) -> str:
        """Await the next line; the end of the story is an empty one."""
        async with asyncio.timeout(20):
            return (await self._reader.readline()).decode().strip()

    async def pid_of(self, name: str) -> int:
        """Await that `name` is up, and return its process."""
        told = await self.line()
        assert told.startswith(f"{name} up "), told
        return int(told.rpartition(" ")[2])

    async def rest(self) -> list[str]:
        """Return what was told and not read, once no child can tell more."""
        os.close(self.fd)
        async with asyncio.timeout(20):
            return (await self._reader.read()).decode().split("\n")[:-1]

    def teller(self, name: str, *signals: str) -> Callable[[], Launch]:
        """Make launches of a program that ends, and tells so, at any of `signals`."""
        return self.python(name, PROGRAM, name, str(self.fd), *signals)

    def python(self, name: str, program: str, *arguments: str) -> Callable[[], Launch]:
        """Make launches of `program`, each under an id of its own."""
        numbers = count()
        command = (sys.executable, "-I", "-S", "-c", program, *arguments)
        return lambda: Launch(
            process_id=f"{name}-{next(numbers)}",
            command=command,
            environ=dict(os.environ),
            fds=(self.fd,),
        )
