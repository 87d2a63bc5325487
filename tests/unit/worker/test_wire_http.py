from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from yarl import URL

from embedpool_shared.errors import ProviderUnavailable, WrongAnswer
from embedpool_worker.providers.wire_connection import JOINED_UP_TO_BYTES, WireAnswer
from embedpool_worker.providers.wire_http import MAX_IDLE_CONNECTIONS, WireClient, header_lines
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Ending
from support.tls import make_tls_files

if TYPE_CHECKING:
    from pathlib import Path

BODY = orjson.dumps({"model": "m", "input": ["alpha", "beta"]})
TARGET = b"/v1/embeddings"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def client(
    url: str, trust: ssl.SSLContext | None = None, *, max_answer_bytes: int = 10_000_000
) -> AsyncIterator[WireClient]:
    wire = WireClient(URL(url), trust, max_answer_bytes=max_answer_bytes)
    try:
        yield wire
    finally:
        await wire.close()


@asynccontextmanager
async def server(
    talk: Talk, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client hung up
        finally:
            writer.close()

    listening = await asyncio.start_server(served, host, 0, ssl=tls)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        name = f"[{host}]" if ":" in host else "localhost" if tls else host
        yield f"{'https' if tls else 'http'}://{name}:{port}"


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    return head, await reader.readexactly(length)


def answering(*parts: bytes, hangs_up: bool = False) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
            if hangs_up:
                return

    return talk


async def asked(talk: Talk, **more: Any) -> WireAnswer:
    async with server(talk) as url, client(url, **more) as wire:
        return await wire.post(TARGET, (), BODY)


async def test_an_answer_is_status_headers_in_lower_case_and_body() -> None:
    answer = await asked(
        answering(b"HTTP/1.1 429 Slow\r\nX-Some: Thing\r\nContent-Length: 3\r\n\r\nno!")
    )

    assert answer == WireAnswer(429, {"x-some": "Thing", "content-length": "3"}, b"no!")


@pytest.mark.parametrize("body", [BODY, b"x" * (JOINED_UP_TO_BYTES + 1)], ids=["small", "large"])
async def test_a_request_is_one_head_with_our_headers_and_the_body(body: bytes) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)

    async with server(talk) as url, client(f"{url}/v1") as wire:
        await wire.post(b"/v1/x?y=%20", [(b"api-key", b"sk-1")], body)

    [(head, sent)] = seen
    assert sent == body
    assert head.decode().split("\r\n")[:-2] == [
        "POST /v1/x?y=%20 HTTP/1.1",
        f"Host: {url.removeprefix('http://')}",
        "User-Agent: embedpool",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
        "api-key: sk-1",
        f"Content-Length: {len(body)}",
    ]


def test_a_header_that_would_start_another_line_is_refused() -> None:
    for value in (b"a\r\nb: c", b"a\nb", b"a\rb"):
        with pytest.raises(ValueError, match="one line"):
            header_lines([(b"x", value)])


async def test_calls_in_turn_share_one_connection_and_calls_at_once_do_not() -> None:
    with FakeProvider.in_thread(latency_s=0.01) as fake:
        async with client(fake.url) as wire:
            for _ in range(3):
                await wire.post(TARGET, (), BODY)
            assert fake.traffic.connections == 1
            await asyncio.gather(*(wire.post(TARGET, (), BODY) for _ in range(5)))
            assert fake.traffic.connections == 5


async def test_only_so_many_idle_connections_are_kept() -> None:
    too_many = MAX_IDLE_CONNECTIONS + 6
    everyone = asyncio.Barrier(too_many)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await everyone.wait()
        writer.write(OK)
        await reader.read()

    async with server(talk) as url, client(url) as wire:
        calls = [asyncio.create_task(wire.post(TARGET, (), BODY)) for _ in range(too_many)]
        await asyncio.gather(*calls)
        leaving = [one.gone for one in wire._open if one not in wire._idle]
        assert len(leaving) <= 6
        await asyncio.gather(*leaving)

        assert len(wire._open) == MAX_IDLE_CONNECTIONS


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n ",
    b"\r\n5\r\nworld\r\n0\r\na: b\r\n\r\n",
)
HEAD_OF_11 = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        CHUNKED,
        (HEAD_OF_11, b"hel", b"lo ", b"world"),
        tuple(bytes([byte]) for byte in HEAD_OF_11 + b"hello world"),
        (EARLY, HEAD_OF_11 + b"hello world"),
    ],
    ids=["chunked", "in parts", "byte by byte", "behind a 100 and a 103"],
)
async def test_a_whole_answer_keeps_the_connection(parts: tuple[bytes, ...]) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(*parts)(reader, writer)

    async with server(talk) as url, client(url) as wire:
        answers = [await wire.post(TARGET, (), BODY) for _ in range(3)]

    assert [one.body for one in answers] == [b"hello world"] * 3
    assert not {"link", "a"} & answers[0].headers.keys()
    assert connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + b"nonsense",
    ],
    ids=["close", "1.0", "another answer behind it", "nonsense behind it"],
)
async def test_an_answer_that_leaves_no_clean_connection_is_its_last(answer: bytes) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(answer)(reader, writer)

    async with server(talk) as url, client(url) as wire:
        bodies = [(await wire.post(TARGET, (), BODY)).body for _ in range(2)]

    assert bodies == [b"{}", b"{}"]
    assert connections == 2


async def test_a_second_answer_behind_it_is_no_part_of_an_answer() -> None:
    behind = b"HTTP/1.1 500 No\r\ncontent-length: 3\r\nx-ratelimit-limit-tokens: 1\r\n\r\nno!"

    answer = await asked(answering(OK + behind))

    assert (answer.status, bytes(answer.body)) == (200, b"{}")
    assert "x-ratelimit-limit-tokens" not in answer.headers


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    answer = await asked(answering(b"HTTP/1.1 200 OK\r\n\r\nhello ", b"world", hangs_up=True))

    assert answer.body == b"hello world"


async def test_no_content_is_an_answer() -> None:
    answer = await asked(answering(b"HTTP/1.1 204 No Content\r\n\r\n"))

    assert (answer.status, answer.body) == (204, b"")


async def test_a_redirect_is_an_answer_like_any_other() -> None:
    answer = await asked(
        answering(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    )

    assert (answer.status, answer.headers["location"]) == (307, "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "talk",
    [
        answering(hangs_up=True),
        answering(b"HTTP/1.1 200 OK\r\ncontent-le", hangs_up=True),
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", hangs_up=True),
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}", hangs_up=True),
        answering(b"HTTP/1.1 100 Continue\r\n\r\n", hangs_up=True),
        answering(b"SSH-2.0-OpenSSH\r\n"),
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        answering(b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"),
    ],
    ids=["none", "head", "body", "chunks", "100", "another protocol", "two lengths", "upgrade"],
)
async def test_half_an_answer_is_none(talk: Talk) -> None:
    with pytest.raises(ProviderUnavailable, match="connection failed: "):
        await asked(talk)


@pytest.mark.parametrize("ending", [Ending.CUT, Ending.RESET])
async def test_a_broken_call_is_tried_once_and_its_connection_never_again(ending: Ending) -> None:
    with FakeProvider.in_thread() as fake:
        async with client(fake.url) as wire:
            await wire.post(TARGET, (), BODY)
            fake.behave(Behaviour(ending=ending, calls=1))
            with pytest.raises(ProviderUnavailable, match="connection failed: "):
                await wire.post(TARGET, (), BODY)
            assert fake.totals.calls == 2
            assert (await wire.post(TARGET, (), BODY)).status == 200
            assert fake.traffic.connections == 2


async def test_a_trickled_answer_is_put_together() -> None:
    with FakeProvider.in_thread(dims=12) as fake:
        async with client(fake.url) as wire:
            whole = await wire.post(TARGET, (), BODY)
            fake.behave(Behaviour(ending=Ending.TRICKLE, trickle_bytes=50, trickle_pause_s=0.001))
            assert (await wire.post(TARGET, (), BODY)).body == whole.body
            assert fake.traffic.connections == 1


async def test_a_call_that_is_given_up_takes_its_connection_with_it() -> None:
    hung_up = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()
        hung_up.set()

    async with server(talk) as url, client(url) as wire:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await wire.post(TARGET, (), BODY)
        await hung_up.wait()


async def test_a_goodbye_the_loop_has_not_read_yet_keeps_a_connection_from_use() -> None:
    # The whole of the server's part happens between two steps of the client's loop.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with client(f"http://127.0.0.1:{listening.getsockname()[1]}") as wire:
            first = asyncio.create_task(wire.post(TARGET, (), BODY))
            peer = await answered_by_hand(listening)
            await first
            peer.close()
            second = asyncio.create_task(wire.post(TARGET, (), BODY))
            (await answered_by_hand(listening)).close()

            assert (await second).status == 200


async def test_an_idle_connection_closed_by_the_server_is_dropped_at_once() -> None:
    async with server(answering(OK, hangs_up=True)) as url, client(url) as wire:
        await wire.post(TARGET, (), BODY)
        [connection] = wire._open
        await connection.gone

        assert not wire._open
        assert not wire._idle


async def answered_by_hand(listening: socket.socket) -> socket.socket:
    loop = asyncio.get_running_loop()
    listening.setblocking(False)
    peer, _ = await loop.sock_accept(listening)
    await loop.sock_recv(peer, 65_536)
    peer.send(OK)
    return peer


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: ",
    ],
    ids=["length", "chunked", "to the end", "a header"],
)
async def test_an_answer_is_not_read_past_its_cap(answer: bytes) -> None:
    with pytest.raises(WrongAnswer, match="larger than 1000 bytes"):
        await asked(answering(answer, b"x" * 5_000), max_answer_bytes=1_000)


@pytest.mark.parametrize("url", ["http://localhost:1", "http:/v1", "ftp://127.0.0.1:1"])
async def test_an_address_where_nobody_answers_is_unavailable(url: str) -> None:
    async with client(url) as wire:
        with pytest.raises(ProviderUnavailable, match="connection failed: "):
            await wire.post(TARGET, (), BODY)


async def test_close_ends_calls_under_way() -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with server(talk) as url, client(url) as wire:
        call = asyncio.create_task(wire.post(TARGET, (), BODY))
        await arrived.wait()
        await wire.close()
        with pytest.raises(ProviderUnavailable):
            await call


async def test_an_ipv6_address_is_called_by_its_name_in_brackets() -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        writer.write(OK)

    async with server(talk, host="::1") as url, client(url) as wire:
        await wire.post(TARGET, (), BODY)

    assert f"\r\nHost: {url.removeprefix('http://')}\r\n".encode() in heads[0]


async def test_tls_is_spoken_to_a_server_whose_name_is_vouched_for(tmp_path: Path) -> None:
    files = make_tls_files(tmp_path)
    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shows.load_cert_chain(files.certificate, files.key)
    trusts = ssl.create_default_context(cafile=str(files.ca))

    async with server(answering(OK), tls=shows) as url:
        async with client(url, trusts) as wire:
            assert [(await wire.post(TARGET, (), BODY)).body for _ in range(2)] == [b"{}", b"{}"]
        async with client(url, ssl.create_default_context()) as wary:
            with pytest.raises(ProviderUnavailable, match="SSLCertVerificationError"):
                await wary.post(TARGET, (), BODY)
