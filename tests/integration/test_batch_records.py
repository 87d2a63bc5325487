"""Batches on a real server: each step from where it may be taken, lists that never lose one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from embedpool_api.accounts.shared_line import SharedLine
from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import (
    AT_FIELD,
    ENDED,
    FILES_LIVE_S,
    Batch,
    BatchField,
    BatchRecord,
    Status,
)
from embedpool_shared.errors import BadRequest, NotFound, RateLimited
from embedpool_shared.file_records import FileRecords
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from support.bulk_records import batch_record_of, file_record_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.valkey import RedisServer

NAMES = Names()
ALICE = "key:alice"
NOW = 1_800_000_000.0


def record(number: int = 1, *, owner: str = ALICE, **more: Any) -> BatchRecord:
    fields: dict[str, Any] = {"created_at": NOW + number / 1_000_000, "metadata": {"run": "€ 7"}}
    return batch_record_of(f"batch_{number}", owner=owner, **(fields | more))


@asynccontextmanager
async def opened(valkey: RedisServer) -> AsyncIterator[BatchRecords]:
    """Batches, and the file that they read."""
    line = SharedLine(Line(connection_pool(RedisAddress(valkey.url), client_name="t")))
    try:
        now = await FileRecords(line, NAMES).now()
        await FileRecords(line, NAMES).add(
            file_record_of(created_at=now),
            max_files=None,
            max_bytes=None,
        )
        yield BatchRecords(line, NAMES)
    finally:
        await line.close()


async def found(batches: BatchRecords, batch_id: str = "batch_1") -> Batch:
    batch = await batches.read(batch_id)
    assert batch is not None
    return batch


def ids(batches: Any) -> list[str]:
    return [batch.record.id for batch in batches]


async def test_a_batch_begins_as_it_was_asked_for(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record())

        batch = await found(batches)
        assert batch.record == record()
        assert batch.fields == {BatchField.STATUS: b"validating"}
        assert await batches.active() == ["batch_1"]
        assert await batches.read("batch_2") is None


async def test_a_batch_made_twice_is_one_and_stays_where_it_is(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record())
        await batches.step("batch_1", Status.FAILED, from_=[Status.VALIDATING])

        await batches.create(record())

        assert (await found(batches)).status is Status.FAILED
        assert await batches.active() == []
        assert ids(await batches.list(ALICE, limit=9)) == ["batch_1"]


async def test_there_is_no_batch_without_its_file(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        with pytest.raises(NotFound) as refusal:
            await batches.create(record(input_file_id="file-2"))

        assert refusal.value.param == "input_file_id"
        assert await batches.read("batch_1") is None
        assert await batches.list(None, limit=9) == []
        assert await batches.active() == []


@pytest.mark.parametrize("to", AT_FIELD)
async def test_a_step_writes_its_time_and_what_came_of_it(valkey: RedisServer, to: Status) -> None:
    async with opened(valkey) as batches:
        await batches.create(record())

        status = await batches.step(
            "batch_1", to, from_=[Status.VALIDATING], fields={BatchField.TOTAL: 7}
        )

        batch = await found(batches)
        assert status is batch.status is to
        assert batch.number(BatchField.TOTAL) == 7
        with valkey.client() as client:
            now_s: Any = client.time()
            lives_s: Any = client.ttl(NAMES.batch("batch_1"))
        assert now_s[0] - 10 <= (batch.time(AT_FIELD[to]) or 0) <= now_s[0]
        assert (await batches.active() == []) is (to in ENDED)
        assert lives_s == -1 if to not in ENDED else FILES_LIVE_S - 10 < lives_s <= FILES_LIVE_S


async def test_a_step_is_taken_only_from_where_it_may_be(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record())

        status = await batches.step(
            "batch_1",
            Status.COMPLETED,
            from_=[Status.FINALIZING, Status.IN_PROGRESS],
            fields={BatchField.TOTAL: 7},
        )

        assert status is Status.VALIDATING
        assert (await found(batches)).fields == {BatchField.STATUS: b"validating"}
        assert await batches.active() == ["batch_1"]
        assert await batches.step("batch_2", Status.FAILED, from_=list(Status)) is None


async def test_of_two_who_take_a_batch_elsewhere_one_comes_too_late(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record())
        ways = [Status.CANCELLING, Status.IN_PROGRESS]

        ends = await asyncio.gather(
            *(batches.step("batch_1", to, from_=[Status.VALIDATING]) for to in ways)
        )

        assert len(set(ends)) == 1
        batch = await found(batches)
        assert [batch.time(AT_FIELD[to]) is None for to in ways].count(True) == 1


async def test_progress_is_noted_until_the_end(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record())
        assert await batches.note("batch_1", {BatchField.COMPLETED: 3, BatchField.MODEL: "m"}) is (
            Status.VALIDATING
        )
        await batches.step("batch_1", Status.CANCELLING, from_=[Status.VALIDATING])
        await batches.note("batch_1", {BatchField.COMPLETED: 4})
        await batches.step("batch_1", Status.CANCELLED, from_=[Status.CANCELLING])

        assert await batches.note("batch_1", {BatchField.COMPLETED: 5}) is Status.CANCELLED

        batch = await found(batches)
        assert batch.number(BatchField.COMPLETED) == 4
        assert batch.text(BatchField.MODEL) == "m"
        assert await batches.note("batch_2", {BatchField.COMPLETED: 5}) is None


async def test_the_oldest_active_batch_comes_first(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        for number in (2, 3, 1):
            await batches.create(record(number))

        assert await batches.active() == ["batch_1", "batch_2", "batch_3"]


async def test_active_batches_that_were_cancelled_come_before_all_others(
    valkey: RedisServer,
) -> None:
    async with opened(valkey) as batches:
        for number in (1, 2, 3, 4):
            await batches.create(record(number))
        for number in (4, 2, 3):
            await batches.step(f"batch_{number}", Status.CANCELLING, from_=[Status.VALIDATING])
        await batches.step("batch_3", Status.CANCELLED, from_=[Status.CANCELLING])

        assert await batches.active() == ["batch_2", "batch_4", "batch_1"]
        assert await batches.cancelled(limit=9) == ["batch_2", "batch_4"]
        assert await batches.cancelled(limit=1) == ["batch_2"]
        assert await batches.step("batch_3", Status.CANCELLING, from_=list(Status))
        assert await batches.cancelled(limit=9) == ["batch_2", "batch_4"]


async def test_an_owner_has_so_many_active_batches_and_no_more(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        for number in (1, 2):
            await batches.create(record(number), max_active=2)
        await batches.create(record(3, owner="team:t"), max_active=2)

        with pytest.raises(RateLimited, match="2 of your batches have not ended"):
            await batches.create(record(4), max_active=2)
        await batches.create(record(2), max_active=2)  # sent again, as its reply was lost
        assert await batches.read("batch_4") is None
        assert await batches.active() == ["batch_1", "batch_2", "batch_3"]

        await batches.step("batch_1", Status.CANCELLED, from_=list(Status))
        await batches.create(record(4), max_active=2)


async def test_everybody_sees_the_own_batches_and_the_master_all(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record(1))
        await batches.create(record(2, owner="team:t"))

        assert ids(await batches.list(ALICE, limit=9)) == ["batch_1"]
        assert ids(await batches.list("team:t", limit=9)) == ["batch_2"]
        assert ids(await batches.list(None, limit=9)) == ["batch_2", "batch_1"]
        assert await batches.list("key:bob", limit=9) == []


async def test_page_by_page_every_batch_is_listed_once_the_newest_first(
    valkey: RedisServer,
) -> None:
    async with opened(valkey) as batches:
        numbers = range(1, 251)  # more than are read at once
        for number in numbers:
            await batches.create(record(number))
        assert len(await batches.list(ALICE, limit=250)) == 250

        listed: list[str] = []
        while page := ids(await batches.list(ALICE, after=listed[-1] if listed else None, limit=7)):
            listed += page
            await batches.create(record(1_000 + len(listed)))  # a new one shifts all places

        assert listed == [f"batch_{number}" for number in reversed(numbers)]


async def test_a_batch_that_is_not_kept_any_more_is_no_gap_in_a_page(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        for number in (1, 2, 3):
            await batches.create(record(number))
        with valkey.client() as client:
            client.delete(NAMES.batch("batch_2"))

        assert ids(await batches.list(ALICE, limit=2)) == ["batch_3", "batch_1"]
        assert ids(await batches.list(ALICE, after="batch_2", limit=2)) == ["batch_1"]


async def test_what_is_long_gone_leaves_the_lists(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record(1, created_at=1.0))
        await batches.create(record(2, created_at=2.0))
        with valkey.client() as client:
            client.delete(NAMES.batch("batch_1"))

            await batches.create(record(3))

            for name in (NAMES.batches(ALICE), NAMES.batches("")):
                assert client.zrange(name, 0, -1) == [b"batch_2", b"batch_3"]
                assert client.ttl(name) > FILES_LIVE_S


@pytest.mark.parametrize("after", ["batch_9", "", "batch_2"])
async def test_nobody_pages_on_behind_what_is_not_theirs(valkey: RedisServer, after: str) -> None:
    async with opened(valkey) as batches:
        await batches.create(record(1))
        await batches.create(record(2, owner="team:t"))

        if not after:
            assert ids(await batches.list(ALICE, after=after, limit=9)) == ["batch_1"]
            return
        with pytest.raises(BadRequest) as refusal:
            await batches.list(ALICE, after=after, limit=9)
        assert refusal.value.param == "after"


async def test_fields_of_a_later_version_are_no_obstacle(valkey: RedisServer) -> None:
    async with opened(valkey) as batches:
        await batches.create(record())
        with valkey.client() as client:
            client.hset(NAMES.batch("batch_1"), "of a later version", "x")

        assert (await found(batches)).fields == {BatchField.STATUS: b"validating"}
