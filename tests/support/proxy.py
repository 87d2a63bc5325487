"""A TCP proxy that spoils what passes: late, slow, cut off, or stuck half open.

Both directions are spoilt alike. Faults may be set from any thread and hold from the next bytes on.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from support.background import in_background

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

_CHUNK_BYTES: Final = 65_536
Upstream = tuple[str, int] | Path
"""Where connections lead: host and port, or a unix socket."""


class FaultProxy:
    """A proxy on a free loopback port in front of `upstream`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.latency_s = 0.0
        """Each chunk is held back this long."""
        self.bytes_per_s: float | None = None
        """Each direction of each connection passes no more than this."""
        self.reset_after_bytes: int | None = None
        """A connection that has passed so many bytes is reset."""

    @classmethod
    def in_thread(cls, upstream: Upstream) -> AbstractContextManager[FaultProxy]:
        """Serve from a thread of its own."""
        return in_background(lambda: cls(upstream))

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self._cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def open_connections(self) -> int:
        """How many connections go through it now."""
        return len(self._links)

    def stall(self) -> None:
        """Pass nothing on, in either direction, but keep every connection open."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Go on after `stall`; what was held back is passed on."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def cut(self) -> None:
        """Reset every connection now; new ones are accepted."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._link(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either side went away, or the proxy ends
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await self._connect()
        link = _Link(writer, up_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pump(reader, up_writer, link))
                directions.create_task(self._pump(up_reader, writer, link))
        except* OSError:
            pass
        finally:
            self._links.discard(link)
            up_writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(str(self._upstream))
        return await asyncio.open_connection(*self._upstream)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link
    ) -> None:
        while chunk := await reader.read(self._chunk_bytes(link)):
            await self._hold(len(chunk))
            writer.write(chunk)
            await writer.drain()
            link.passed_bytes += len(chunk)
            most = self.reset_after_bytes
            if most is not None and link.passed_bytes >= most:
                link.reset()
                return
        await self._flows.wait()
        if not writer.is_closing():
            writer.write_eof()

    def _chunk_bytes(self, link: _Link) -> int:
        most = self.reset_after_bytes
        left = _CHUNK_BYTES if most is None else max(1, most - link.passed_bytes)
        # A tenth of a second's worth, so that a narrow line trickles rather than bursts.
        width = _CHUNK_BYTES if self.bytes_per_s is None else max(1, int(self.bytes_per_s / 10))
        return min(left, width, _CHUNK_BYTES)

    async def _hold(self, size_bytes: int) -> None:
        await self._flows.wait()
        narrow_s = size_bytes / self.bytes_per_s if self.bytes_per_s else 0.0
        if pause_s := self.latency_s + narrow_s:
            await asyncio.sleep(pause_s)


class _Link:
    """The two halves of one proxied connection."""

    def __init__(self, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
        self._halves = (client, upstream)
        self.passed_bytes = 0

    def reset(self) -> None:
        """Drop both halves without a goodbye."""
        for half in self._halves:
            connection = half.get_extra_info("socket")
            if connection.family != socket.AF_UNIX and not half.is_closing():
                # A linger of zero makes the kernel send RST instead of FIN.
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            half.transport.abort()
