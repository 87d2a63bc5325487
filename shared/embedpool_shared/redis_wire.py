"""The bytes of one Redis connection: a command out, its replies in, nothing in between.

redis-py connects, signs in and speaks TLS; then its transport is taken over, because its stream
layer costs a lone request a third of a millisecond on its way (four exchanges; seen in redis-py
5.3, whose connection keeps the transport in `_writer` and maps errors in `_parser`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import hiredis
from typing_extensions import override

Heard = Callable[[list[Any]], None]
"""Takes replies in the moment they arrive; it may not raise."""

_MORE: Final = object()


class Wire(asyncio.Protocol):
    """One connection with at most one exchange under way."""

    def __init__(self, transport: asyncio.Transport, reader: Any) -> None:
        """Read replies from `transport` with `reader`, a `hiredis.Reader`."""
        self.is_broken = False
        self._transport = transport
        self._reader = reader
        self._replies: list[Any] = []
        self._wanted = 0
        self._answered: asyncio.Future[list[Any]] | None = None
        self._heard: Heard | None = None

    async def ask(
        self, packed: bytes, count: int, *, patience_s: float, heard: Heard | None = None
    ) -> list[Any]:
        """Send commands and await their replies, errors among them.

        `heard` gets them first, if there is no error among them: whoever awaits has to wait until
        the loop has done with everybody who was ready before.

        Raises `ConnectionResetError` when the connection breaks, `TimeoutError` when it is silent.
        """
        if self.is_broken:
            raise ConnectionResetError("the connection is closed")
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        self._replies, self._wanted, self._heard = [], count, heard
        patience = loop.call_later(patience_s, self._break, TimeoutError("no answer in time"))
        try:
            self._transport.write(packed)
            return await self._answered
        finally:
            patience.cancel()
            self._answered = self._heard = None

    @override
    def data_received(self, data: bytes) -> None:
        """Take in what arrived; wake whoever waits once all replies are there."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _MORE:
                self._replies.append(reply)
        except hiredis.HiredisError:
            self._break(ConnectionResetError("not the Redis protocol"))
            return
        if self._answered and len(self._replies) >= self._wanted and not self._answered.done():
            self._answered.set_result(self._replies)
            if self._heard and not any(isinstance(reply, Exception) for reply in self._replies):
                self._heard(self._replies)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns that no reply will come."""
        self._break(exc or ConnectionResetError("Redis closed the connection"))

    def _break(self, error: Exception) -> None:
        self.is_broken = True
        self._transport.abort()
        if self._answered and not self._answered.done():
            self._answered.set_exception(error)


def taken_over(connection: Any) -> Wire:
    """Take the transport of a redis-py connection that has just connected and signed in."""
    transport: asyncio.Transport = connection._writer.transport
    reader = hiredis.Reader(
        replyError=connection._parser.parse_error,
        notEnoughData=_MORE,
    )
    wire = Wire(transport, reader)
    transport.set_protocol(wire)
    return wire
