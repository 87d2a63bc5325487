"""A small, fast HTTP/1.1 server that can also answer badly: late, in part, slowly or never.

What to answer is a plain function of the request; this module only reads, waits and writes.
Bodies need a content-length; a connection's requests are answered in order.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Final, cast

from typing_extensions import override

from support.faults import Ending

_END_OF_HEAD: Final = b"\r\n\r\n"
_FAST_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body_bytes: int
    key: str | None  # the credential, from either header that may carry it


@dataclass(slots=True)
class Response:
    """An answer, and how it gets to the wire."""

    # Not frozen: a frozen dataclass takes three times as long to make.

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    ending: Ending = Ending.WHOLE
    trickle_bytes: int = 64
    trickle_pause_s: float = 0.05


Answer = Callable[[Head, bytes], Response]


@dataclass(slots=True)
class Traffic:
    """What goes on at the server's connections; only its loop writes it."""

    in_flight: int = 0
    max_in_flight: int = 0
    open_connections: int = 0
    connections: int = 0


# A client's heads differ in nothing but the length, so nearly all of them are found here.
@lru_cache(maxsize=2_048)
def head_from(block: bytes) -> Head:
    """Read a request head; raises ValueError when it is none."""
    first, *lines = block.decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    path, _, query = target.partition("?")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    key = headers.get("api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    return Head(method, path, query, headers, int(headers.get("content-length", 0)), key or None)


def _head_of(response: Response, framing: str) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    headers = {"content-type": "application/json"} | dict(response.headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {phrase}\r\n{lines}{framing}\r\n\r\n".encode("latin-1")


def _wire(response: Response) -> bytes:
    if response.status == 200 and not response.headers:
        return _FAST_HEAD % (len(response.body), response.body)
    return _head_of(response, f"content-length: {len(response.body)}") + response.body


class Connection(asyncio.Protocol):
    """One client's connection: requests in, answers out, one at a time."""

    def __init__(self, answer: Answer, traffic: Traffic, connections: set[Connection]) -> None:
        self._answer = answer
        self._traffic = traffic
        self._connections = connections
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._unread = b""
        self._is_busy = False
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._traffic.connections += 1
        self._traffic.open_connections += 1

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._traffic.open_connections -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._is_busy:
            self._is_busy = False
            self._traffic.in_flight -= 1
        self._unread = b""

    @override
    def data_received(self, data: bytes) -> None:
        self._unread = self._unread + data if self._unread else data
        while not self._is_busy and (request := self._next_request()) is not None:
            self._begin(self._answer(*request))

    def close(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    def _next_request(self) -> tuple[Head, bytes] | None:
        unread = self._unread
        end = unread.find(_END_OF_HEAD)
        if end < 0:
            return None
        start = end + len(_END_OF_HEAD)
        try:
            head = head_from(unread[:end])
        except ValueError:
            self._unread = b""
            self._transport.close()
            return None
        stop = start + head.body_bytes
        if len(unread) < stop:
            return None
        self._unread = unread[stop:]
        return head, unread[start:stop]

    def _begin(self, response: Response) -> None:
        traffic = self._traffic
        traffic.in_flight += 1
        traffic.max_in_flight = max(traffic.max_in_flight, traffic.in_flight)
        self._is_busy = True
        if response.delay_s > 0:
            self._timer = self._loop.call_later(response.delay_s, self._deliver, response, True)
        else:
            self._deliver(response)

    def _deliver(self, response: Response, was_delayed: bool = False) -> None:
        match response.ending:
            case Ending.WHOLE:
                self._transport.write(_wire(response))
                self._done(was_delayed)
            case Ending.CUT:
                wire = _wire(response)
                self._transport.write(wire[: len(wire) - len(response.body) // 2 - 1])
                self._transport.close()
            case Ending.RESET:
                _reset(self._transport)
            case Ending.TRICKLE:
                self._transport.write(_head_of(response, "transfer-encoding: chunked"))
                self._trickle(response, 0)
            case Ending.HANG:
                pass

    def _trickle(self, response: Response, start: int) -> None:
        piece = response.body[start : start + response.trickle_bytes]
        self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if not piece:
            self._done(True)
            return
        self._timer = self._loop.call_later(
            response.trickle_pause_s, self._trickle, response, start + len(piece)
        )

    def _done(self, was_delayed: bool) -> None:
        self._is_busy = False
        self._timer = None
        self._traffic.in_flight -= 1
        # Answered at once: the loop in data_received goes on by itself.
        if was_delayed and self._unread:
            self.data_received(b"")


def _reset(transport: asyncio.Transport) -> None:
    # A linger of zero makes the kernel send RST. uvloop's socket object refuses setsockopt, so the
    # option is set through a duplicate of the descriptor, which names the same socket.
    fileno = transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(fileno)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class HttpServer:
    """A listening server on loopback; `port` is known once it has started."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self.traffic = Traffic()
        self.port = 0

    async def start(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen on 127.0.0.1; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._answer, self.traffic, self._connections),
            "127.0.0.1",
            port,
            backlog=1_024,
            ssl=tls,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._server.wait_closed()
