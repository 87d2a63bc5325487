"""Files and batches through OpenAI's own package, on the server that the api process runs."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import openai
import pytest
from typing_extensions import override

from embedpool_shared.batches import BatchField, LineProblem, Status, encode_record
from embedpool_shared.config.settings import FilesSettings
from embedpool_shared.errors import StoreUnavailable
from embedpool_shared.file_store import FileStore
from integration.bulk_edge import LINE, MASTER, BulkEdge, bulk_edge, served
from integration.one_process import until

if TYPE_CHECKING:
    from support.valkey import RedisServer

MIB: Final = 1024 * 1024
BOUNDARY: Final = "a-boundary-of-this-test"
FORM: Final = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
HEAD: Final = (
    f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    f"--{BOUNDARY}\r\n"
    'content-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
).encode()
TAIL: Final = f"\r\n--{BOUNDARY}--\r\n".encode()


@asynccontextmanager
async def clients(edge: BulkEdge, key: str = MASTER) -> AsyncIterator[openai.AsyncOpenAI]:
    """Serve the edge; yields the package's client."""
    async with (
        served(edge.app) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
    ):
        yield client


def plain(client: openai.AsyncOpenAI) -> httpx.AsyncClient:
    """Ask the same server without the package."""
    headers = {"authorization": f"Bearer {MASTER}"}
    return httpx.AsyncClient(base_url=client.base_url, headers=headers, timeout=30)


async def make_batch(client: openai.AsyncOpenAI, file_id: str, **more: Any) -> Any:
    return await client.batches.create(
        input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h", **more
    )


async def test_a_file_goes_in_and_comes_out_through_the_blocking_client(
    valkey: RedisServer, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(LINE * 20_000)

    def whole_life(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=MASTER, max_retries=0) as client:
            made = client.files.create(file=source, purpose="batch")
            assert (made.object, made.purpose, made.status) == ("file", "batch", "processed")
            assert (made.filename, made.bytes) == ("in.jsonl", len(LINE) * 20_000)
            assert made.expires_at == made.created_at + 30 * 86_400
            assert client.files.retrieve(made.id) == made
            content = client.files.content(made.id)
            assert content.response.headers["content-type"] == "application/octet-stream"
            assert content.response.headers["content-length"] == str(made.bytes)
            assert content.read() == source.read_bytes()
            assert list(client.files.list()) == [made]
            gone = client.files.delete(made.id)
            assert (gone.id, gone.deleted) == (made.id, True)
            assert list(client.files.list()) == []
            with pytest.raises(openai.NotFoundError):
                client.files.content(made.id)

    async with bulk_edge(valkey, tmp_path / "store") as edge, served(edge.app) as url:
        await asyncio.to_thread(whole_life, url)

        assert edge.contents() == []


async def test_a_batch_lives_through_the_blocking_client(
    valkey: RedisServer, tmp_path: Path
) -> None:
    def whole_life(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=MASTER, max_retries=0) as client:
            file = client.files.create(file=LINE, purpose="batch")
            made = client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/embeddings",
                completion_window="24h",
                metadata={"run": "7"},
            )
            assert (made.object, made.status) == ("batch", "validating")
            assert client.batches.retrieve(made.id) == made
            assert list(client.batches.list()) == [made]
            cancelled = client.batches.cancel(made.id)
            assert cancelled.status == "cancelling"
            assert client.batches.cancel(made.id) == cancelled

    async with bulk_edge(valkey, tmp_path) as edge, served(edge.app) as url:
        await asyncio.to_thread(whole_life, url)


async def test_a_new_batch_has_all_that_openais_has(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        file = await client.files.create(file=("lines.jsonl", LINE), purpose="batch")

        made = await make_batch(client, file.id, metadata={"run": "7"})

        assert made.status == "validating"
        assert made.expires_at == made.created_at + 86_400
        assert made.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
        assert made.usage.total_tokens == made.usage.output_tokens == 0
        assert made.metadata == {"run": "7"}
        assert made.errors is made.output_file_id is made.error_file_id is made.model is None
        declared = set(type(made).model_fields)
        assert made.to_dict().keys() - declared == {"embedpool"}
        assert declared <= made.to_dict().keys()


async def test_a_batch_shows_how_far_it_is(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        file = await client.files.create(file=LINE, purpose="batch")
        made = await make_batch(client, file.id)

        await edge.batches.step(
            made.id,
            Status.IN_PROGRESS,
            from_=[Status.VALIDATING],
            fields={BatchField.MODEL: "m", BatchField.TOTAL: 9},
        )
        await edge.batches.note(
            made.id,
            {
                BatchField.COMPLETED: 4,
                BatchField.FAILED: 1,
                BatchField.TOKENS: 123,
                BatchField.COST_PICO_USD: 2_460_000,
            },
        )
        now: Any = await client.batches.retrieve(made.id)

        assert (now.status, now.model) == ("in_progress", "m")
        assert now.in_progress_at >= made.created_at
        assert now.request_counts.to_dict() == {"total": 9, "completed": 4, "failed": 1}
        assert now.usage.input_tokens == now.usage.total_tokens == 123
        assert Decimal(now.embedpool["cost_usd"]) == Decimal("0.00000246")


async def test_a_batch_that_failed_says_in_which_lines(valkey: RedisServer, tmp_path: Path) -> None:
    problems = [LineProblem(code="invalid_json", message="not JSON", line=17)]
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        file = await client.files.create(file=LINE, purpose="batch")
        made = await make_batch(client, file.id)

        await edge.batches.step(
            made.id,
            Status.FAILED,
            from_=[Status.VALIDATING],
            fields={BatchField.ERRORS: encode_record(problems)},
        )
        failed = await client.batches.retrieve(made.id)

        assert failed.failed_at is not None
        assert failed.errors is not None
        assert failed.errors.data is not None
        assert failed.errors.data[0].to_dict() == {
            "code": "invalid_json",
            "message": "not JSON",
            "line": 17,
            "param": None,
        }


async def test_the_client_pages_through_everything(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        files = [await client.files.create(file=LINE, purpose="batch") for _ in range(23)]
        batches = [await make_batch(client, file.id) for file in files]

        assert [one.id async for one in client.files.list(limit=5)] == [
            one.id for one in reversed(files)
        ]
        assert [one.id async for one in client.files.list(order="asc", purpose="batch")] == [
            one.id for one in files
        ]
        assert [one.id async for one in client.batches.list(limit=4)] == [
            one.id for one in reversed(batches)
        ]
        page = await client.batches.list()
        assert (len(page.data), page.has_more) == (20, True)


async def test_deleting_all_files_while_listing_them_leaves_none(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        for _ in range(23):
            await client.files.create(file=LINE, purpose="batch")

        async for file in client.files.list(limit=5):
            await client.files.delete(file.id)

        assert (await client.files.list()).data == []
        assert edge.contents() == []


async def test_fifty_at_once_are_all_kept_whole(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        contents = [LINE * number for number in range(1, 51)]

        files = await asyncio.gather(
            *(client.files.create(file=content, purpose="batch") for content in contents)
        )
        read = await asyncio.gather(*(client.files.content(file.id) for file in files))

        assert [answer.content for answer in read] == contents
        assert len({file.id for file in files}) == len(edge.contents()) == 50


async def test_a_file_larger_than_allowed_is_refused_and_leaves_nothing(
    valkey: RedisServer, tmp_path: Path
) -> None:
    bounds = FilesSettings(max_file_bytes=MIB)
    async with bulk_edge(valkey, tmp_path, bounds=bounds) as edge, clients(edge) as client:
        kept = await client.files.create(file=b"x" * MIB, purpose="batch")

        with pytest.raises(openai.APIStatusError) as refusal:
            await client.files.create(file=b"x" * (MIB + 1), purpose="batch")

        assert refusal.value.status_code == 413
        assert str(MIB) in refusal.value.message
        assert edge.contents() == [f"files/{kept.id}"]


async def test_a_body_of_unknown_length_is_refused_as_soon_as_it_is_too_large(
    valkey: RedisServer, tmp_path: Path
) -> None:
    bounds = FilesSettings(max_file_bytes=2 * MIB)
    async with bulk_edge(valkey, tmp_path, bounds=bounds) as edge, clients(edge) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n"
            + f"authorization: Bearer {MASTER}\r\ncontent-type: {FORM['content-type']}\r\n".encode()
            + b"\r\n"
            + b"%x\r\n%b\r\n" % (len(HEAD), HEAD)
        )
        answered = asyncio.create_task(reader.readuntil(b"\r\n"))
        sent = 0
        while not answered.done():
            sent += MIB
            assert sent < 20 * MIB, "it takes whatever comes"
            writer.write(b"%x\r\n%b\r\n" % (MIB, bytes(MIB)))
            await writer.drain()
            await asyncio.wait([answered], timeout=0.05)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

        assert b" 413 " in await answered
        await until(lambda: edge.contents() == [], "nothing is left of it")


async def test_two_hundred_megabytes_are_neither_read_nor_held(
    valkey: RedisServer, tmp_path: Path
) -> None:
    size = 201 * MIB
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
            + f"authorization: Bearer {MASTER}\r\ncontent-type: {FORM['content-type']}\r\n".encode()
            + b"content-length: %d\r\n\r\n" % size
        )

        said = await reader.readuntil(b"\r\n")  # not a byte of the body was sent
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

        assert b" 413 " in said
        assert edge.contents() == []


async def test_a_large_file_is_never_in_memory(valkey: RedisServer, tmp_path: Path) -> None:
    size = 190 * MIB

    async def form() -> AsyncIterator[bytes]:
        yield HEAD
        for _ in range(size // MIB):
            yield bytes(MIB)
        yield TAIL

    async with (
        bulk_edge(valkey, tmp_path) as edge,
        clients(edge) as client,
        plain(client) as asking,
    ):
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        response = await asking.post("files", content=form(), headers=FORM)

        made = response.json()
        assert made["bytes"] == size
        async with asking.stream("GET", f"files/{made['id']}/content") as answer:
            read = 0
            async for chunk in answer.aiter_bytes():
                read += len(chunk)
        assert read == size
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        assert grown_kib < 64 * 1024
        assert edge.contents() == [f"files/{made['id']}"]


async def test_whoever_hangs_up_in_the_middle_leaves_nothing(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge, clients(edge) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999\r\n"
            + f"authorization: Bearer {MASTER}\r\ncontent-type: {FORM['content-type']}\r\n".encode()
            + b"\r\n"
            + HEAD
            + LINE * 20_000
        )
        await until(lambda: edge.contents() != [], "the upload has begun")

        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

        await until(lambda: edge.contents() == [], "nothing is left of it")
        assert (await client.files.list()).data == []


async def test_a_slow_upload_is_waited_for(valkey: RedisServer, tmp_path: Path) -> None:
    async def form() -> AsyncIterator[bytes]:
        for piece in (HEAD[:50], HEAD[50:], LINE, TAIL[:9], TAIL[9:]):
            yield piece
            await asyncio.sleep(0.02)

    async with (
        bulk_edge(valkey, tmp_path) as edge,
        clients(edge) as client,
        plain(client) as asking,
    ):
        hurry = {"x-stainless-read-timeout": "0.01", "x-litellm-timeout": "0.01"}

        made = (await asking.post("files", content=form(), headers=FORM | hurry)).json()

        assert made["bytes"] == len(LINE)


class Ending(FileStore):
    """A store that gives the first chunk of a file, and then what the test says."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.fails = False
        self.may_go_on = threading.Event()
        self.chunks_read = 0
        self.is_closed = False

    @override
    def read(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        try:
            for number, chunk in enumerate(super().read(path, offset=offset)):
                if number:
                    self.may_go_on.wait(10)
                if number and self.fails:
                    raise StoreUnavailable("away")
                self.chunks_read += 1
                yield chunk
        finally:
            self.is_closed = True


async def test_a_store_that_fails_in_the_middle_is_no_short_answer(
    valkey: RedisServer, tmp_path: Path
) -> None:
    store = Ending(tmp_path.as_uri())
    async with bulk_edge(valkey, tmp_path, store=store) as edge, clients(edge) as client:
        file = await client.files.create(file=bytes(3 * MIB), purpose="batch")
        store.fails = True
        store.may_go_on.set()

        with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
            await client.files.content(file.id)

        assert store.is_closed


async def test_whoever_hangs_up_while_reading_stops_the_reading(
    valkey: RedisServer, tmp_path: Path
) -> None:
    store = Ending(tmp_path.as_uri())
    async with (
        bulk_edge(valkey, tmp_path, store=store) as edge,
        clients(edge) as client,
        plain(client) as asking,
    ):
        file = await client.files.create(file=bytes(50 * MIB), purpose="batch")

        async with asking.stream("GET", f"files/{file.id}/content") as answer:
            async for _ in answer.aiter_raw():
                break
        store.may_go_on.set()

        await until(lambda: store.is_closed, "the file is closed")
        assert store.chunks_read < 40
