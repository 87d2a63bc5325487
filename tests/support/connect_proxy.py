"""A forward proxy as companies run them: it opens tunnels, and remembers where to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from support.background import in_background

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

_CHUNK_BYTES = 65_536


class ConnectProxy:
    """A proxy on a free loopback port; every tunnel ends at `port`, whatever host is named."""

    def __init__(self, port: int) -> None:
        self._target_port = port
        self.tunnels: list[str] = []
        """The host and port of every tunnel asked for, oldest first."""
        self.heads: list[bytes] = []
        """What else was asked: requests without a tunnel, as they came."""
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def in_thread(cls, port: int) -> AbstractContextManager[ConnectProxy]:
        """Serve from a thread of its own."""
        return in_background(lambda: cls(port))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side went away, or the proxy ends
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        if method == b"CONNECT":
            self.tunnels.append(target.decode())
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            self.heads.append(head)
            far_writer.write(head)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_pass_on(reader, far_writer))
                ways.create_task(_pass_on(far_reader, writer))
        except* OSError:
            pass
        finally:
            far_writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if not writer.is_closing():
        writer.close()
