"""A lean HTTP/1.1 client for one address: POST a body, get an answer, keep the connection.

It leaves out what the wire format has no use for: redirects, cookies, proxies, decompression.

Invariants
- One attempt per `post`: a request is never sent twice, not even on a connection that turns out
  to be closed. Which is why an idle connection is asked for signs of an end before it is used.
- A call that is given up takes its connection with it: no answer is ever read by another call.
- Nothing but `ProviderError`s leave `post`, besides the caller's own cancellation.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from yarl import URL

from embedpool_shared.errors import ProviderUnavailable
from embedpool_worker.providers.wire_connection import Connection, WireAnswer
from embedpool_worker.providers.wire_dial import Dialer

Headers = Sequence[tuple[bytes, bytes]]

FIXED_HEADERS: Final[Headers] = (
    (b"User-Agent", b"embedpool"),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"identity"),
    (b"Content-Type", b"application/json"),
)
MAX_IDLE_CONNECTIONS: Final = 64
CONNECT_TIMEOUT_S: Final = 10.0
KEEPALIVE_TLS_S: Final = 30.0
KEEPALIVE_PLAIN_S: Final = 4.0
"""uvicorn hangs up after 5 s; a POST sent into that moment fails and may not be repeated."""


class Wire(Protocol):
    """Posts to one address, over whatever lies in between."""

    async def post(self, target: bytes, headers: Headers, body: bytes) -> WireAnswer:
        """POST `body` to `target`, a path with its query; raises one `ProviderError`."""
        ...

    async def close(self) -> None:
        """Give back the connections."""
        ...


class WireClient:
    """The direct way to the scheme, host and port of `base`."""

    def __init__(
        self, base: URL, ssl_context: ssl.SSLContext | None, *, max_answer_bytes: int
    ) -> None:
        is_tls = base.scheme == "https"
        self._ssl = ssl_context if is_tls else None
        self._keepalive_s = KEEPALIVE_TLS_S if is_tls else KEEPALIVE_PLAIN_S
        self._max_answer_bytes = max_answer_bytes
        self._dialer = Dialer(base)
        host = (base.host_port_subcomponent or "").encode("ascii")
        self._head = b" HTTP/1.1\r\n" + header_lines([(b"Host", host), *FIXED_HEADERS])
        self._headers: Headers = []  # those written last, and how: mostly they are the next, too
        self._lines = b""
        self._idle: deque[Connection] = deque()  # the longest idle first
        self._open: set[Connection] = set()

    async def post(self, target: bytes, headers: Headers, body: bytes) -> WireAnswer:
        """POST `body` to `target`, a path with its query; raises one `ProviderError`.

        Headers are never changed once they were given here: the next call may bring them again.
        """
        if headers is not self._headers:
            self._headers, self._lines = headers, header_lines(headers)
        head = b"POST %b%b%bContent-Length: %d\r\n\r\n" % (
            target,
            self._head,
            self._lines,
            len(body),
        )
        connection = self._kept() or await self._new()
        try:
            answer = await connection.ask(head, body)
        except BaseException:
            connection.abort()
            raise
        self._keep(connection)
        return answer

    async def close(self) -> None:
        """Close every connection; calls under way fail."""
        leaving = list(self._open)
        for connection in leaving:
            connection.abort()
        if leaving:
            await asyncio.wait([connection.gone for connection in leaving])

    def _kept(self) -> Connection | None:
        """The connection used last, if the server still holds its end."""
        if not self._idle:
            return None
        oldest_at = asyncio.get_running_loop().time() - self._keepalive_s
        while self._idle and self._idle[0].idle_since_at < oldest_at:
            self._idle.popleft().abort()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_silent:
                return connection
            connection.abort()
        return None

    def _keep(self, connection: Connection) -> None:
        if not connection.is_reusable or len(self._idle) >= MAX_IDLE_CONNECTIONS:
            connection.abort()
            return
        connection.idle_since_at = asyncio.get_running_loop().time()
        self._idle.append(connection)

    async def _new(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._connect()
        # Time and TLS are OSErrors too; a name that cannot be written as one is the other.
        except (OSError, UnicodeError) as error:
            raise ProviderUnavailable(f"connection failed: {type(error).__name__}") from error

    async def _connect(self) -> Connection:
        sock = await self._dialer.dial()
        _, connection = await asyncio.get_running_loop().create_connection(
            self._connection,
            sock=sock,
            ssl=self._ssl,
            server_hostname=self._dialer.host.rstrip(".") if self._ssl else None,
        )
        if connection.gone.done() or sock.fileno() < 0:
            raise ConnectionResetError("closed as soon as it was open")
        connection.watch(sock)
        self._open.add(connection)
        return connection

    def _connection(self) -> Connection:
        return Connection(max_answer_bytes=self._max_answer_bytes, forget=self._forget)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def header_lines(headers: Headers) -> bytes:
    """Write headers as they travel; raises ValueError for one that would start another line."""
    lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a header must fit one line")
    return lines
