"""What every request meets first: an id, a reader of bodies, and the last resort for bugs.

Plain ASGI throughout: a wrapped response would hide that the client went away.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from embedpool_api.corked import sent_whole
from embedpool_api.errors import error_body
from embedpool_api.passage import PASSAGE, ClientDisconnected, Passage
from embedpool_shared.errors import BodyTooLarge, EmbedPoolError, NotJson
from embedpool_shared.serials import serials

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from embedpool_api.witness import Witness

HEADERS: Final = "embedpool.headers"
"""Key of the scope: the request's headers as a dict of bytes, names in lower case."""
BODY: Final = "embedpool.body"
"""Key of the scope: the whole body where it is there already and nothing encodes it, else None."""
REQUEST_ID: Final = "embedpool.request_id"
"""Key of the scope: the caller's own id where it is a sane one, else a new one."""
WHOLE: Final = "embedpool.response"
"""A message with the status, headers and body of a whole answer; only what the edge surrounds may
send it."""

_request_ids: Final = serials("req_", digits=12)
"""Unique is enough: a random id for each request would cost a system call."""
_sane_id = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch
_log = logging.getLogger(__name__)


class Edge:
    """Gives each request its id, and answers what nothing inside answered."""

    def __init__(self, app: ASGIApp, witness: Witness | None = None) -> None:
        """Stand around `app`; `witness` hears of every request when it is over."""
        self._app = app
        self._witness = witness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app`; its errors become our envelope, whatever they are."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: Mapping[bytes, bytes] | None = scope.get(HEADERS)
        if headers is None:
            headers = scope[HEADERS] = dict(scope["headers"])
        request_id = scope[REQUEST_ID] = request_id_of(headers)
        passage = scope[PASSAGE] = self._arrived(request_id, scope, headers)
        answer = _Answer(send, passage)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:  # noqa: BLE001 (the last resort: a bug must not end as silence)
            await answer.fail(error)
        finally:
            if self._witness is not None:
                self._witness.ended(passage)
            passage.over()

    def _arrived(self, request_id: str, scope: Scope, headers: Mapping[bytes, bytes]) -> Passage:
        if self._witness is None:
            return Passage(request_id, scope["method"], "", 0.0)
        return self._witness.arrived(request_id, scope["method"], scope["path"], headers)


class _Answer:
    """One response on its way out."""

    def __init__(self, send: Send, passage: Passage) -> None:
        self.passage = passage
        self._send = send
        self._is_started = False
        self._is_complete = False

    async def send(self, message: Message) -> None:
        passage = self.passage
        if message["type"] == WHOLE:
            await self._send_whole(message["status"], message["headers"], message["body"])
            return
        if message["type"] == "http.response.start":
            self._is_started = True
            passage.status = message["status"]
            message["headers"] = [*message.get("headers", ()), self._id_header()]
        elif message["type"] == "http.response.body":
            self._is_complete = not message.get("more_body", False)
            passage.bytes_out += len(message.get("body", b""))
        await self._send(message)

    async def _send_whole(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Send a whole answer, whose headers have its length."""
        passage = self.passage
        if sent_whole(self._send, status, [*headers, self._id_header()], body):
            self._is_started = self._is_complete = True
            passage.status = status
            passage.bytes_out += len(body)
            return
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def _id_header(self) -> tuple[bytes, bytes]:
        return (b"x-request-id", self.passage.request_id.encode("ascii"))

    async def fail(self, error: Exception) -> None:
        """Answer with `error`; what has begun is broken off, so that nobody takes it for whole."""
        self.passage.error = error
        if isinstance(error, ClientDisconnected):
            return
        if not isinstance(error, EmbedPoolError):
            _log.error(
                "request_failed", exc_info=error, extra={"request_id": self.passage.request_id}
            )
        if self._is_complete:
            return
        if self._is_started:
            raise error
        await send_error(self.send, error, request_id=self.passage.request_id)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Take the caller's `x-request-id` where it is a sane one, else make a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _sane_id(given):
        return given.decode("ascii")
    return next(_request_ids)


async def send_error(
    send: Send,
    error: Exception,
    *,
    request_id: str = "",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Answer with our envelope for `error`, and further `headers`."""
    status, own, body = error_body(error, request_id=request_id)
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, max_bytes: int) -> bytes:
    """Read a whole body; raises `BodyTooLarge`, `NotJson` if encoded, `ClientDisconnected`."""
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in {b"", b"identity"}:
        raise NotJson("A Content-Encoding is not accepted; send the body as it is")
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    left_bytes = max_bytes
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk: bytes = message.get("body", b"")
        left_bytes -= len(chunk)
        if left_bytes < 0:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {max_bytes} bytes; send fewer or shorter inputs")
