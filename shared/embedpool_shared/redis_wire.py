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

    def __init__(
        self, transport: asyncio.Transport, error_from: Callable[[str], Exception]
    ) -> None:
        """Read the replies that arrive by `transport`; `error_from` makes one of a refusal."""
        self.is_broken = False
        self.has_refused = False
        """Whether an error is among the last replies: known without a look at each of them."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._error_from = error_from
        self._reader = hiredis.Reader(replyError=self._refusal, notEnoughData=_MORE)
        self._replies: list[Any] = []
        self._wanted = 0
        self._answered: asyncio.Future[list[Any]] | None = None
        self._heard: Heard | None = None
        self._late_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0

    def ask(
        self, packed: bytes, count: int, *, patience_s: float, heard: Heard | None = None
    ) -> asyncio.Future[list[Any]]:
        """Send commands; the future gets their replies, errors among them.

        `heard` gets them first, if there is no error among them: whoever awaits has to wait until
        the loop has done with everybody who was ready before.

        The future fails with `TimeoutError` when Redis is silent, else with what broke the
        connection. Whoever stops waiting for it must close the connection.
        """
        self._replies, self._wanted, self._heard = [], count, heard
        self.has_refused = False
        self._transport.write(packed)
        # On its way: whatever else there is to do can wait, for no reply comes before a next turn.
        self._answered = self._loop.create_future()
        self._late_at = self._loop.time() + patience_s
        if self._watch is None or self._late_at < self._watch_at:
            self._watch_until(self._late_at)
        return self._answered

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
        answered, replies = self._answered, self._replies
        if answered and len(replies) >= self._wanted and not answered.done():
            self._answered = None
            answered.set_result(replies)
            if self._heard and not self.has_refused:
                self._heard(replies)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns that no reply will come."""
        self._break(exc or ConnectionResetError("Redis closed the connection"))

    def _refusal(self, text: str) -> Exception:
        self.has_refused = True
        return self._error_from(text)

    def _watch_until(self, late_at: float) -> None:
        """Look then whether Redis is silent.

        One timer outlasts many exchanges: to set and stop one for each costs more than to send.
        """
        if self._watch:
            self._watch.cancel()
        self._watch = self._loop.call_at(late_at, self._look)
        self._watch_at = late_at

    def _look(self) -> None:
        self._watch = None
        if self._answered is None:
            return
        if self._loop.time() < self._late_at:
            self._watch_until(self._late_at)
        else:
            self._break(TimeoutError("no answer in time"))

    def _break(self, error: Exception) -> None:
        self.is_broken = True
        self._transport.abort()
        if self._watch:
            self._watch.cancel()
        if self._answered and not self._answered.done():
            self._answered.set_exception(error)


def taken_over(connection: Any) -> Wire:
    """Take the transport of a redis-py connection that has just connected and signed in."""
    transport: asyncio.Transport = connection._writer.transport
    wire = Wire(transport, connection._parser.parse_error)
    transport.set_protocol(wire)
    return wire
