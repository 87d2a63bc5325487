"""A whole answer, sent at once, is what uvicorn would have sent piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from embedpool_api.arrivals import Arrivals
from embedpool_api.corked import Corked
from embedpool_api.middleware import WHOLE, Edge
from support.ports import free_port

BODY = b'{"a":1}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
SPLIT = [(b"x-name", b"one\r\nx-other: two"), *HEADERS]


async def _app(scope: Scope, _: Receive, send: Send) -> None:
    headers = SPLIT if scope["path"] == "/split" else HEADERS
    if scope["path"] != "/pieces":
        await send({"type": WHOLE, "status": 200, "headers": headers, "body": BODY})
        return
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


@asynccontextmanager
async def _serving() -> AsyncIterator[int]:
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            Edge(_app), port=port, http=Arrivals, lifespan="off", log_config=None,
            server_header=False, date_header=False,
        )
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.wait({serving}, timeout=0.01)
        yield port
    finally:
        server.should_exit = True
        await serving


async def _asked(port: int, *requests: bytes) -> bytes:
    """Send these at once; the last one has to make the server hang up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(requests))
    async with asyncio.timeout(5):
        answer = await reader.read(-1)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return answer


def _request(path: str, *, method: str = "GET", version: str = "1.1", close: bool = True) -> bytes:
    end = "connection: close\r\n" if close else ""
    head = f"{method} {path} HTTP/{version}\r\nhost: here\r\nx-request-id: r1\r\n{end}\r\n"
    return head.encode()


@pytest.mark.parametrize(
    "how",
    [{}, {"method": "HEAD"}, {"version": "1.0", "close": False}],
    ids=["close", "head", "http 1.0"],
)
def test_an_unusual_request_is_answered_as_ever(how: dict[str, Any]) -> None:
    async def test() -> None:
        async with _serving() as port:
            whole = await _asked(port, _request("/whole", **how))
            pieces = await _asked(port, _request("/pieces", **how))

            assert whole == pieces
            assert whole.startswith(b"HTTP/1.1 200 OK\r\n")

    asyncio.run(test())


def test_usual_requests_on_one_connection_are_answered_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[bytes] = []
    write_whole = Corked.write_whole

    def noted(corked: Corked, data: bytes) -> None:
        sent.append(data)
        write_whole(corked, data)

    async def test() -> None:
        async with _serving() as port:
            first = [_request("/whole", close=False), _request("/whole", close=False)]
            whole = await _asked(port, *first, _request("/pieces"))

            answers = whole.split(BODY)
            assert len(answers) == 4
            assert answers[0] == answers[1]
            assert answers[0] == answers[2].replace(b"connection: close\r\n", b"")
            assert answers[3] == b""
            assert sent == [answers[0] + BODY] * 2

    monkeypatch.setattr(Corked, "write_whole", noted)
    asyncio.run(test())


def test_a_header_of_two_lines_never_leaves() -> None:
    async def test() -> None:
        async with _serving() as port:
            answer = await _asked(port, _request("/split", close=False), _request("/whole"))

            assert b"x-other" not in answer

    asyncio.run(test())
