"""Batches whose leader, or whose Redis, is gone for a while or for good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from embedpool_shared.batches import BatchField, Status
from embedpool_worker.accounting import FENCED
from embedpool_worker.arq_workers import BulkJobs
from integration.batches import (
    balances,
    batches_at,
    ids,
    lines,
    names,
    tokens_of,
)
from integration.one_process import Embedder, until
from support.valkey import RedisServer
from support.vectors import token_count

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def test_after_a_crash_another_worker_goes_on_and_every_line_is_there_once(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.05)
        batch_id = await batches.create(lines(6_000))
        for number in range(3):
            victim = batches.run(embedder, f"victim{number}")
            await batches.progressed(batch_id, 1_000 * (number + 1))
            await victim.kill()
            await batches.overtake()  # else its lease would lapse in some seconds

        batches.run(embedder, "heir")
        batch = await batches.ended(batch_id)
        await batches.rolled_up()

        booked = await batches.booked_of(batch_id)
        used = sum(token_count(f"text {n}") for n in range(6_000))
        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(6_000)
        assert balances(booked)
        assert sum(one.requests for one in booked) == 6_000
        assert sum(one.used for one in booked) == batch.number(BatchField.TOKENS) == used
        assert len(embedder.inputs) <= 6_000 + 3 * 16_384


async def test_a_batch_goes_on_after_redis_was_restarted(tmp_path: Path) -> None:
    with RedisServer(appendonly=True, settings={"appendfsync": "always"}) as valkey:
        async with batches_at(valkey, tmp_path) as batches:
            embedder = Embedder(latency_s=0.05)
            batches.run(embedder)
            batch_id = await batches.create(lines(8_000))
            await batches.progressed(batch_id, 1)

            valkey.kill()
            await asyncio.sleep(0.5)  # long enough to be noticed
            valkey.start()
            batch = await batches.ended(batch_id)

            assert batch.status is Status.COMPLETED
            assert ids(batches.outputs(batch)) == names(8_000)
            assert len(embedder.inputs) == 8_000


async def test_a_leader_that_loses_its_lease_books_nothing_more(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.05)
        first = batches.run(embedder, "first")
        batch_id = await batches.create(lines(8_000))
        await batches.progressed(batch_id, 1)

        await batches.overtake()
        second = batches.run(embedder, "second")
        batch = await batches.ended(batch_id)
        await batches.rolled_up()
        await first.stop()
        await second.stop()

        booked = await batches.booked_of(batch_id)
        assert ids(batches.outputs(batch)) == names(8_000)
        assert sum(one.requests for one in booked if one.reason != FENCED) == 8_000
        assert balances(await batches.site.ledger())
        assert await batches.paid() == tokens_of(embedder)


async def test_what_was_answered_and_not_written_down_when_a_leader_stops_is_waste(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder()
        batch_id = await batches.create(lines(9_000))
        batches.store.is_full = True
        first = batches.run(embedder, "first")
        await until(lambda: len(embedder.inputs) == 9_000, "all of it is answered")

        await first.stop()
        batches.store.is_full = False
        batches.run(embedder, "second")
        await batches.ended(batch_id)
        await batches.rolled_up()

        assert balances(await batches.site.ledger())
        assert await batches.paid() == tokens_of(embedder)
        used = sum(one.used for one in await batches.booked_of(batch_id))
        assert 2 * used == tokens_of(embedder)


async def test_another_worker_goes_on_within_five_seconds_of_a_leaders_death(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        ours, heirs = Embedder(latency_s=0.2), Embedder()
        first = batches.run(ours, "first")
        batch_id = await batches.create(lines(20_000))
        await batches.progressed(batch_id, 1)
        batches.run(heirs, "second")

        await first.kill()
        await until(lambda: bool(heirs.calls), "another one sends its lines", patience_s=5.0)

        await batches.cancel(batch_id)
        await batches.ended(batch_id)


async def test_what_a_dead_leader_left_in_the_queue_delays_nobody(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        batch_id = await batches.create(lines(3))
        jobs = BulkJobs(batches.site.pool("api-arq"), batches.site.names)
        await jobs.enqueue(batch_id, job_id=batch_id)
        await batches.site.call("SET", f"arq:in-progress:{batch_id}", "1", "EX", "70")

        batches.run(Embedder())
        async with asyncio.timeout(5.0):
            batch = await batches.ended(batch_id)
        await jobs.close()

        assert batch.status is Status.COMPLETED
