"""Whoever runs batches is told of each once; that nobody can be told is no failure."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from embedpool_api.bulk.arq_jobs import BatchJobs
from embedpool_shared.batches import BATCH_FUNCTION
from embedpool_shared.names import Names
from embedpool_shared.redis import RedisAddress, connection_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.valkey import RedisServer

NAMES = Names()


@asynccontextmanager
async def jobs_at(valkey: RedisServer) -> AsyncIterator[BatchJobs]:
    jobs = BatchJobs(connection_pool(RedisAddress(valkey.url), client_name="t"), NAMES)
    try:
        yield jobs
    finally:
        await jobs.close()


async def test_a_job_is_json_and_there_once(valkey: RedisServer) -> None:
    async with jobs_at(valkey) as jobs:
        for _ in range(2):
            await jobs.enqueue("batch_1")

        with valkey.client() as client:
            assert client.zrange(NAMES.bulk_jobs, 0, -1) == [b"batch_1"]
            raw = client.get("arq:job:batch_1")
        assert isinstance(raw, bytes)
        job = msgspec.json.decode(raw)
        assert (job["f"], job["a"], job["k"]) == (BATCH_FUNCTION, ["batch_1"], {})


async def test_a_redis_that_is_away_is_only_logged(
    valkey: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with jobs_at(valkey) as jobs:
        valkey.kill()

        await jobs.enqueue("batch_1")

        assert [(one.levelno, "batch_1" in one.getMessage()) for one in caplog.records] == [
            (logging.WARNING, True)
        ]
