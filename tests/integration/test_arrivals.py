"""However a request for embeddings arrives, it is answered as uvicorn alone would answer it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from embedpool_api.arrivals import MAX_NEW_HEADS, Arrivals
from embedpool_api.errands import GO_ON
from embedpool_api.middleware import BODY, HEADERS, WHOLE, Edge, read_body
from embedpool_shared.embedding.request import MAX_BODY_BYTES
from support.ports import free_port

HOT: Final = "/v1/embeddings"
Piece = bytes | float


class Echo:
    """Answers with what it was sent, and remembers which requests went the short way."""

    def __init__(self) -> None:
        self.was_known: list[bool] = []
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.steps: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: bytes | None = scope.get(BODY)
        self.was_known.append(body is not None)
        if body is None:
            body = await read_body(receive, scope[HEADERS], max_bytes=MAX_BODY_BYTES)
        if body == b"wait":
            self.gone.set_result((await receive())["type"])
        if body == b"later":
            await asyncio.sleep(0.05)
        if body == b"told":
            await self._told(scope.get(GO_ON))
        about = [scope["method"], scope["path"], _without_length(scope), body.decode("latin-1")]
        answer = json.dumps(about).encode()
        headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", b"text/plain")]
        if body == b"pieces":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
            return
        await send({"type": WHOLE, "status": 200, "headers": headers, "body": answer})

    async def _told(self, go_on: Callable[[], None] | None) -> None:
        """Wait for an answer of which somebody tells in the very moment it is there."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            answer.set_result(None)
            if go_on is not None:
                go_on()
            self.steps.append("settled")

        asyncio.get_running_loop().call_soon(settle)
        await answer
        self.steps.append("gone on")


def _without_length(scope: Scope) -> list[list[str]]:
    headers = sorted(scope[HEADERS].items())
    return [[k.decode(), v.decode()] for k, v in headers if k != b"content-length"]


@asynccontextmanager
async def serving(http: type[HttpToolsProtocol] = Arrivals) -> AsyncIterator[tuple[int, Echo]]:
    port, echo = free_port(), Echo()
    server = uvicorn.Server(
        uvicorn.Config(
            Edge(echo), port=port, http=http, lifespan="off", log_config=None,
            proxy_headers=False, server_header=False, date_header=False,
        )
    )  # fmt: skip
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.wait({task}, timeout=0.01)
        yield port, echo
    finally:
        server.should_exit = True
        await task
        assert not server.server_state.tasks


def request(body: bytes, path: str = HOT, *, extra: str = "", method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nX-Request-Id: r1\r\n{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


LAST: Final = request(b"last", extra="Connection: close\r\n")


async def told(port: int, pieces: list[Piece]) -> bytes:
    """Send pieces, with pauses where a number says so, until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        if isinstance(piece, bytes):
            writer.write(piece)
            await writer.drain()
        else:
            await asyncio.sleep(piece)
    async with asyncio.timeout(5):
        answer = await reader.read(-1)
    writer.close()
    return answer


P: Final = 0.02
ARRIVALS: Final[dict[str, list[Piece]]] = {
    "one": [],
    "one after the other": [request(b"one"), P, request(b"three"), P, request(b""), P],
    "with a method of its own": [request(b"one"), P, request(b"one", method="GET"), P],
    "with another path": [request(b"one"), P, request(b"one", "/v1/models"), P, request(b"x"), P],
    "with another of the paths": [request(b"one"), P, request(b"one", "/embeddings"), P],
    "with a question": [request(b"one", f"{HOT}?api-version=1"), P],
    "all at once": [request(b"one") * 3],
    "all at once after a known one": [request(b"one"), P, request(b"later") + request(b"two")],
    "while another waits": [request(b"one"), P, request(b"later"), P, request(b"two"), 0.1],
    "a head within a head": [
        request(b"one"),
        P,
        b"POST /embeddings HTTP/1.1\r\nX-Note: ",
        P,
        request(b"two"),
        P,
    ],
    "a body announced elsewhere": [
        request(b"abc", "/v1/models", extra="Expect: 100-continue\r\n")[:-3],
        P,
        b"abc",
        P,
    ],
    "head and body apart": [request(b"one"), P, request(b"three")[:-5], P, b"three", P],
    "a head in halves": [request(b"one"), P, request(b"two")[:20], P, request(b"two")[20:], P],
    "a body in halves": [request(b"one"), P, request(b"three")[:-2], P, b"ee" + request(b"x"), P],
    "a large body": [request(b"x" * 300_000), P, request(b"y" * 700_000), P],
    "chunked": [
        request(b"one"),
        P,
        b"POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        b"X-Request-Id: r2\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        P,
    ],
    "a body announced": [request(b"abc", extra="Expect: 100-continue\r\n")[:-3], P, b"abc", P],
    "in pieces": [request(b"pieces"), P, request(b"pieces"), P],
    "an encoded one": [request(b"one", extra="Content-Encoding: gzip\r\n"), P] * 2,
    "too large": [LAST.replace(b"h: 4", b"h: 99999999")],
    "no request": [request(b"one"), P, b"what?\r\n\r\n"],
    "no length": [request(b"one"), P, request(b"one").replace(b"h: 3", b"h: x")],
    "old": [request(b"one").replace(b"HTTP/1.1", b"HTTP/1.0")],
    "many heads": [
        piece for n in range(MAX_NEW_HEADS + 2) for piece in (request(b"a", extra=f"X: {n}\r\n"), P)
    ],
}  # fmt: skip


@pytest.mark.parametrize("pieces", ARRIVALS.values(), ids=ARRIVALS)
def test_an_arrival_is_answered_as_uvicorn_alone_would(pieces: list[Piece]) -> None:
    async def test() -> None:
        sent = [*pieces, LAST]
        async with serving() as (port, _), serving(HttpToolsProtocol) as (plain_port, echo):
            ours, theirs = await asyncio.gather(told(port, sent), told(plain_port, sent))

            assert ours == theirs
            assert not any(echo.was_known)

    asyncio.run(test())


async def known_of(*pieces: Piece) -> list[bool]:
    async with serving() as (port, echo):
        await told(port, [*pieces, P, LAST])
        return echo.was_known[:-1]


def test_a_head_that_came_before_is_known() -> None:
    sent: list[Piece] = [request(b"one"), P, request(b"other"), P, request(b"three")]

    assert asyncio.run(known_of(*sent)) == [False, True, True]


def test_a_head_is_known_again_after_another_request() -> None:
    models = request(b"", "/v1/models")
    sent: list[Piece] = [request(b"one"), P, models, P, request(b"three")]

    assert asyncio.run(known_of(*sent)) == [False, False, True]


def test_heads_that_never_repeat_are_soon_remembered_no_more() -> None:
    def differing(number: int) -> bytes:
        return request(b"x", extra=f"X-Number: {number}\r\n")

    new: list[Piece] = [piece for n in range(MAX_NEW_HEADS) for piece in (differing(n), P)]
    late: list[Piece] = [differing(-1), P, differing(-1), P]
    old = [differing(MAX_NEW_HEADS - 1)]

    assert asyncio.run(known_of(*new, *late, *old))[-3:] == [False, False, True]


def test_a_head_that_repeats_is_remembered_after_any_number_of_others() -> None:
    heads = [request(b"x", extra=f"X-Number: {n}\r\n") for n in range(MAX_NEW_HEADS + 2)]
    sent: list[Piece] = [piece for head in heads for piece in (head, P, head, P)]

    assert asyncio.run(known_of(*sent)) == [False, True] * len(heads)


@asynccontextmanager
async def _asked(port: int, *requests: bytes) -> AsyncIterator[asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number, sent in enumerate(requests):
        writer.write(sent)
        if number < len(requests) - 1:
            await reader.readuntil(b"]")
    yield writer
    writer.close()


def in_time(test: Callable[[], Awaitable[Any]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await test()

    asyncio.run(main())


@pytest.mark.parametrize("before", [[], [request(b"one")]], ids=["new", "known"])
def test_whoever_is_answered_late_is_seen_to_hang_up(before: list[bytes]) -> None:
    async def test() -> None:
        async with serving() as (port, echo):
            async with _asked(port, *before, request(b"wait")):
                await asyncio.sleep(P)
                assert not echo.gone.done()
            assert await echo.gone == "http.disconnect"
            assert echo.was_known[-1] is bool(before)

    in_time(test)


async def test_who_settles_an_answer_takes_its_request_along() -> None:
    async with serving() as (port, echo):
        await told(port, [request(b"told"), P, request(b"told"), P, LAST])

    assert echo.steps == ["gone on", "settled"] * 2
