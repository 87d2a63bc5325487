"""Makes each response one write: uvicorn writes head and body apart, and uvloop sends at once.

Two writes are two system calls and wake the client twice. Seen in uvicorn 0.54 with uvloop 0.23.
"""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class CorkedHttp(HttpToolsProtocol):
    """uvicorn's own protocol, on a transport that keeps a head until its body is there."""

    @override
    def connection_made(self, transport: Any) -> None:
        """Wrap the transport before uvicorn sees it."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]


class Corked:
    """A transport that sends a head and its body as one piece."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Stand in front of `transport`."""
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Gather a first piece, which is a head, and send it with the second, which is its body."""
        self._gathered.append(data)
        if len(self._gathered) > 1:
            self._send()
        else:
            self._loop.call_soon(self._send)  # a piece that stays alone

    def close(self) -> None:
        """Send what is left, then close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        pieces, self._gathered = self._gathered, []
        if pieces:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the transport's own affair."""
        return getattr(self._transport, name)
