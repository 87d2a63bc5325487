"""Makes each response one write: uvicorn writes head and body apart, and uvloop sends at once.

Two writes are two system calls and wake the client twice. Seen in uvicorn 0.54 with uvloop 0.23.
What is known as a whole does not even pass uvicorn's look at every header: that was a tenth of the
api's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    RequestResponseCycle,
)


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

    def write_whole(self, data: bytes) -> None:
        """Send a head with its body."""
        if self._gathered:
            self._send()
        self._transport.write(data)

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


def sent_whole(send: Any, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Send a response with a `content-length` at once where `send` is uvicorn's and all is usual.

    False: nothing was sent, the ordinary way is right.
    """
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or not isinstance(cycle.transport, Corked):
        return False
    is_usual = cycle.keep_alive and not (
        cycle.response_started or cycle.disconnected or cycle.flow.write_paused
    )
    if not is_usual or cycle.scope["method"] == "HEAD" or cycle.default_headers:
        return False
    lines = [STATUS_LINE[status]]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    head = b"".join(lines)
    if head.count(b"\n") != len(headers) + 1:
        return False  # a header of two lines: uvicorn refuses it
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write_whole(b"%b\r\n%b" % (head, body))
    cycle.message_event.set()
    cycle.on_response()
    return True
