"""A line becomes what its model takes, or the error its caller would have been answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from embedpool_shared import tokens
from embedpool_shared.errors import BadRequest, EmbedPoolError, ModelNotFound, StoreUnavailable
from embedpool_shared.jobs import CacheUse, MergeKey
from embedpool_worker.bulk.line_reader import (
    BLOCK_BYTES,
    BLOCK_LINES,
    Block,
    LineJob,
    LineReader,
    LineRefused,
    ReadAhead,
    read_ahead,
)
from embedpool_worker.bulk.lines import RawLine
from support.bulk_records import batch_record_of
from support.cards import CATALOG
from support.stores import memory_store
from unit.worker.bulk.input_lines import MODEL, body_line, file_of, written

LONG = "word " * 20_000


def reader(*, default_model: str | None = None, **fields: Any) -> LineReader:
    record = batch_record_of(**fields)
    return LineReader(
        record, CATALOG, tokens, max_line_bytes=1_000_000, default_model=default_model
    )


def read(text: bytes | None, **fields: Any) -> LineJob | LineRefused:
    return reader(**fields).job(RawLine(7, text, 99))


def job(text: bytes, **fields: Any) -> LineJob:
    found = read(text, **fields)
    assert isinstance(found, LineJob)
    return found


def error(text: bytes, **fields: Any) -> EmbedPoolError:
    found = read(text, **fields)
    assert isinstance(found, LineRefused)
    assert (found.number, found.custom_id, found.end_offset) == (7, "a", 99)
    return found.error


def test_a_line_is_ready_to_be_sent() -> None:
    line = job(body_line("id-7", input=["x", "yé"], encoding_format="base64"))

    assert line == LineJob(
        number=7,
        custom_id="id-7",
        fitted=line.fitted,
        is_base64=True,
        asked_model=MODEL,
        size_bytes=4,
        end_offset=99,
        lane=MODEL,
        price_per_token_pico_usd=0,
    )
    assert line.fitted.inputs == ["x", "yé"]
    assert line.fitted.merge == MergeKey(MODEL)


def test_the_batch_says_with_whom_its_lines_travel_and_what_is_done_about_parameters() -> None:
    body = body_line(model="cohere/embed-english-v3.0", input_type="query", odd=1)

    line = job(body, scope="team:t", drops_params=True)

    assert line.fitted.merge.scope == "team:t"
    assert line.fitted.merge.params == '{"input_type":"query"}'
    assert isinstance(error(body), BadRequest)


def test_a_user_goes_to_the_provider_only_where_the_batch_says_so() -> None:
    body = body_line(user="u1")

    assert job(body).fitted.merge.params == ""
    assert job(body, forwards_user=True).fitted.merge.params == '{"user":"u1"}'


def test_an_alias_a_provider_and_a_pattern_lead_to_their_lane() -> None:
    small = job(body_line(model="small@azure-eu"))
    mistral = job(body_line(model="mistral/new"))

    assert (small.lane, small.fitted.merge.provider, small.asked_model) == (
        MODEL,
        "azure-eu",
        "small@azure-eu",
    )
    assert (mistral.lane, mistral.fitted.merge.model) == ("mistral/*", "mistral/new")


def test_a_line_without_a_model_is_for_the_default_one() -> None:
    text = written("a", body={"input": "x"})

    assert job(text, default_model="wordllama").asked_model == "wordllama"
    assert error(text).param == "model"


def test_a_body_may_ask_for_less_of_the_cache() -> None:
    assert job(body_line(cache={"no-cache": True})).cache == CacheUse.WRITE
    assert job(body_line(cache={"no-store": True})).cache == CacheUse.READ
    assert job(body_line()).cache == CacheUse.BOTH


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": LONG}, "input[0]"),
        ({"input": ["x"] * 2_049}, "input"),
        ({"input": None}, "input"),
        ({"dimensions": 9_999}, "dimensions"),
        ({"encoding_format": "odd"}, "encoding_format"),
        ({"api_base": "http://h"}, "api_base"),
    ],
)
def test_what_is_wrong_with_a_body_is_its_own_lines_error(body: dict[str, Any], param: str) -> None:
    found = error(body_line("a", **body))

    assert isinstance(found, BadRequest)
    assert found.param == param


def test_a_model_that_is_not_served_any_more_is_each_lines_error() -> None:
    assert isinstance(error(body_line("a", model="gone")), ModelNotFound)


@pytest.mark.parametrize("text", [b"not JSON", None])
def test_a_file_that_changed_behind_our_back_refuses_the_line(text: bytes | None) -> None:
    found = read(text)

    assert isinstance(found, LineRefused)
    assert isinstance(found.error, BadRequest)


def test_blocks_end_after_so_many_lines_or_bytes() -> None:
    few = [len(block) for block in reader().blocks([file_of(*[written()] * (BLOCK_LINES + 3))])]
    large = file_of(*[written(text="x" * 900_000)] * 12)
    blocks = list(reader().blocks([large]))

    assert few == [BLOCK_LINES, 3]
    assert len(blocks) > 1
    assert all(sum(900_000 for _ in block) <= BLOCK_BYTES + 900_000 for block in blocks)
    assert [line.number for block in blocks for line in block] == [*range(1, 13)]


async def test_a_stored_file_is_read_from_the_line_it_goes_on_with() -> None:
    store = memory_store()
    with store.writer("files/f") as file:
        file.write(file_of(*[written(f"{number}") for number in range(1, 601)]))
    whole = await lines_of(read_ahead(store, "files/f", reader()))

    after = whole[299]
    ahead = read_ahead(store, "files/f", reader(), offset=after.end_offset, number=after.number)

    assert [line.custom_id for line in whole] == [f"{number}" for number in range(1, 601)]
    assert await lines_of(ahead) == whole[300:]


async def lines_of(ahead: ReadAhead) -> list[LineJob | LineRefused]:
    lines: list[LineJob | LineRefused] = []
    while block := await ahead.next():
        lines += block
    assert await ahead.next() == ()
    await ahead.close()
    return lines


async def test_a_store_that_is_away_is_said_to_whoever_takes_the_block() -> None:
    def blocks() -> Iterator[Block]:
        yield (line(1),)
        raise StoreUnavailable("away")

    ahead = ReadAhead(blocks())

    assert await ahead.next() == (line(1),)
    with pytest.raises(StoreUnavailable):
        await ahead.next()
    await ahead.close()


async def test_no_more_than_one_block_is_read_ahead() -> None:
    begun: list[int] = []
    more = threading.Semaphore(0)

    def blocks() -> Iterator[Block]:
        for number in range(5):
            begun.append(number)
            more.release()
            yield (line(number),)

    ahead = ReadAhead(blocks())
    await ahead.next()
    await asyncio.to_thread(more.acquire)
    await asyncio.to_thread(more.acquire)
    await ahead._next

    assert begun == [0, 1]
    await ahead.close()


async def test_who_is_cancelled_while_waiting_loses_no_block() -> None:
    go_on = threading.Event()

    def blocks() -> Iterator[Block]:
        go_on.wait(10.0)
        yield (line(1),)

    ahead = ReadAhead(blocks())
    waiting = asyncio.create_task(ahead.next())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go_on.set()

    assert await ahead.next() == (line(1),)
    await ahead.close()


async def test_closing_lets_go_of_the_file() -> None:
    closed: list[bool] = []

    def blocks() -> Iterator[Block]:
        try:
            yield from ((line(number),) for number in range(5))
        finally:
            closed.append(True)

    ahead = ReadAhead(blocks())
    await ahead.next()
    await ahead.close()

    assert closed == [True]


def line(number: int) -> LineRefused:
    return LineRefused(number, "a", GONE, 0)


GONE = BadRequest("x")
