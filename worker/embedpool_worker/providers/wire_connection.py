"""One HTTP/1.1 connection: one request out, one answer in, then perhaps another.

Invariants
- A request is written once. Whatever breaks afterwards fails its `ask`, and ends the connection.
- A connection is used again only after a whole answer that allows it, with nothing behind it, and
  only while its socket is silent: a server's goodbye is seen even before the loop has read it.
- The parser (llhttp) reads heads and chunks; the rest of a body of known length is received
  straight into its place. Each copy of a megabyte costs as much as a small call.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import httptools
from typing_extensions import override

from embedpool_shared.errors import ProviderError, ProviderUnavailable, WrongAnswer

if TYPE_CHECKING:
    import socket

JOINED_UP_TO_BYTES: Final = 65_536
"""Copying so little behind its head is cheaper than a list of two for the kernel."""
SCRATCH_BYTES: Final = 32_768
"""What is received at once, until the head has told how much there will be."""


@dataclass(slots=True)
class WireAnswer:
    """What came back, read to its end; header names are lower case."""

    # Not frozen: a frozen dataclass takes three times as long to make.

    status: int
    headers: dict[str, str]
    body: bytes | bytearray


class Connection(asyncio.BufferedProtocol):
    """An open connection; `gone` is resolved when it is closed."""

    def __init__(self, *, max_answer_bytes: int, forget: Callable[[Connection], None]) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._silence = select.poll()
        self._waiter: asyncio.Future[WireAnswer] | None = None
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._fields: dict[bytes, bytes] = {}  # of the head; of several with one name the last
        self._parts: list[bytes] = []  # of the body
        # The parser calls these as they are: no line of ours runs for each of thirty headers.
        self.on_header = self._fields.__setitem__
        self.on_body = self._parts.append
        self._parser = httptools.HttpResponseParser(self)
        self._expect_answer()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.idle_since_at = 0.0

    def _expect_answer(self) -> None:
        self._room_bytes = self._max_answer_bytes  # everything that arrives, the head too
        self._status = 0
        self._headers: dict[str, str] = {}
        self._fields.clear()
        self._parts.clear()
        self._length: int | None = None
        self._missing: memoryview | None = None  # of a body that is read past the parser
        self._body = bytearray()
        self._has_head: bool = False
        self._is_whole: bool = False
        self._ends_with_connection: bool = False
        self._may_go_on: bool = False

    def watch(self, sock: socket.socket) -> None:
        """Take note of the socket beneath, which the loop hides."""
        self._silence.register(sock, select.POLLIN)

    def ask(self, head: bytes, body: bytes) -> asyncio.Future[WireAnswer]:
        """Send a request; the future holds its answer, or one `ProviderError`."""
        waiter: asyncio.Future[WireAnswer] = self._loop.create_future()
        if self._transport.is_closing():
            waiter.set_exception(_broken("closed before the request"))
            return waiter
        if len(body) <= JOINED_UP_TO_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        # On its way: the rest can wait, for no answer is read before the loop's next turn.
        self._expect_answer()
        self._waiter = waiter
        return waiter

    @property
    def is_reusable(self) -> bool:
        """Whether the last answer left the connection open, clean and fully written."""
        return (
            self._is_whole
            and self._may_go_on
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )

    @property
    def is_silent(self) -> bool:
        """Whether an idle connection is still open with nothing to read, asked of the kernel."""
        return not self._transport.is_closing() and not self._silence.poll(0)

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._forget(self)
        if self._has_head and self._ends_with_connection and exc is None:
            self._is_whole = True
            self._deliver()
        else:
            broken = "closed before the answer's end" if exc is None else type(exc).__name__
            self._fail(broken)
        self.gone.set_result(None)

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch if self._missing is None else self._missing

    @override
    def buffer_updated(self, nbytes: int) -> None:
        if self._waiter is None:
            self.abort()  # nobody asked
            return
        self._room_bytes -= nbytes
        if self._room_bytes < 0:
            self._fail_as_too_large()
        elif self._missing is None:
            self._parse(self._scratch[:nbytes])
        elif nbytes < len(self._missing):
            self._missing = self._missing[nbytes:]
        else:
            self._parser = httptools.HttpResponseParser(self)  # the old one still waits for it
            self._is_whole = True
            self._deliver()

    def _parse(self, part: memoryview) -> None:
        try:
            self._parser.feed_data(part)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_whole:
                self._fail(type(error).__name__)
                return
            self._may_go_on = False
        if self._is_whole:
            self._deliver()
        elif self._has_head and self._length is not None:
            self._make_room(self._length)

    def _make_room(self, length: int) -> None:
        """Receive the rest of the body where it belongs."""
        begun = b"".join(self._parts)
        if length - len(begun) > self._room_bytes:
            self._fail_as_too_large()
            return
        self._body = bytearray(length)
        self._body[: len(begun)] = begun
        self._missing = memoryview(self._body)[len(begun) :]

    def _deliver(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        body: bytes | bytearray
        if self._missing is not None:
            self._missing, body = None, self._body
        else:
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        waiter.set_result(WireAnswer(self._status, self._headers, body))

    def _fail(self, broken: str) -> None:
        self._fail_with(_broken(broken))

    def _fail_as_too_large(self) -> None:
        self._fail_with(WrongAnswer(f"the answer is larger than {self._max_answer_bytes} bytes"))

    def _fail_with(self, error: ProviderError) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.abort()

    # What the parser calls while it reads.

    def on_message_begin(self) -> None:
        """Expect a head; behind a whole answer there should be none, and it is not read."""
        if self._is_whole:
            raise httptools.HttpParserError("another answer behind it")

    def on_headers_complete(self) -> None:
        """Read off the head how the body will end; headers behind the body count for nothing."""
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return
        self._has_head = True
        self._headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self._fields.items()
        }
        is_coded = "transfer-encoding" in self._headers
        length = None if is_coded else self._headers.get("content-length")
        self._length = None if length is None else int(length)
        self._ends_with_connection = length is None and not is_coded
        self._may_go_on = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """End the answer, unless it was only word of one to come (100, 103)."""
        if self._status < 200:
            self._fields.clear()
        else:
            self._is_whole = True


def _broken(how: str) -> ProviderUnavailable:
    return ProviderUnavailable(f"connection failed: {how}")
