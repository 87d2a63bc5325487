"""The only module of the worker that knows arq: chores by the clock, and the jobs of batches.

arq wakes only at its polls: nothing here may matter within a second. Jobs are JSON, never pickle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

import msgspec
from arq.connections import ArqRedis
from arq.cron import cron
from arq.worker import Worker, func
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from embedpool_shared.batches import BATCH_FUNCTION
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names

POLL_S: Final = 10.0
HEALTH_S: Final = 60
GOODBYE_S: Final = 1.0
BULK_POLL_S: Final = 0.5
MAX_ATTENDED: Final = 1_000
"""Batches seen to at once, most of which only wait for their turn."""
ATTENDANCE_TIMEOUT_S: Final = 60
"""Of one unit; it ends by itself long before."""

_json = msgspec.json.Encoder()


def maintenance_worker(
    pool: ConnectionPool, names: Names, tidy: Callable[[], Awaitable[None]]
) -> Worker:
    """Build the arq worker that runs the chores; one of all worker processes does each."""

    async def tidy_lanes(_context: dict[Any, Any]) -> None:
        try:
            await tidy()
        except QueueUnavailable:
            return  # the next quarter of an hour will do

    return Worker(
        cron_jobs=[
            cron(
                cast("Any", tidy_lanes),
                name=f"{names.maintenance}:tidy",
                minute={5, 20, 35, 50},
                second=0,
                timeout=60,
                keep_result=0,
            )
        ],
        queue_name=names.maintenance,
        redis_pool=_redis(pool, names.maintenance),
        poll_delay=POLL_S,
        health_check_interval=HEALTH_S,
        **_ours(),
    )


async def run_for_ever(build: Callable[[], Worker]) -> None:
    """Run a worker until cancelled; a Redis that is away only delays it."""
    while True:
        worker = build()
        try:
            await worker.async_run()
        except RedisError:
            await asyncio.sleep(worker.poll_delay_s)
        finally:
            # arq's own goodbye needs Redis; its connections are closed with the process anyway.
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await worker.close()


class BulkJobs:
    """The queue of jobs that see to batches: the leader puts them in and takes them out."""

    def __init__(self, pool: ConnectionPool, names: Names) -> None:
        """Connect by `pool` when first needed."""
        self._names = names
        self._redis = _redis(pool, names.bulk_jobs)

    async def enqueue(self, batch_id: str, *, job_id: str) -> None:
        """Let a batch be seen to, once for each job id; raises `QueueUnavailable`."""
        try:
            await self._redis.enqueue_job(BATCH_FUNCTION, batch_id, _job_id=job_id)
        except RedisError:
            raise QueueUnavailable("Redis is not reachable") from None

    async def serve(self, attend: Callable[[str], Awaitable[None]]) -> None:
        """Call `attend` with the batch of each job, for ever."""
        await run_for_ever(lambda: self._worker(attend))

    async def close(self) -> None:
        """Hang up."""
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._redis.aclose(close_connection_pool=True)

    def _worker(self, attend: Callable[[str], Awaitable[None]]) -> Worker:
        async def attend_batch(_context: dict[Any, Any], batch_id: str) -> None:
            await attend(batch_id)

        function = func(
            cast("Any", attend_batch),
            name=BATCH_FUNCTION,
            keep_result=0,
            timeout=ATTENDANCE_TIMEOUT_S,
        )
        return Worker(
            functions=[function],
            queue_name=self._names.bulk_jobs,
            redis_pool=self._redis,
            max_jobs=MAX_ATTENDED,
            poll_delay=BULK_POLL_S,
            health_check_interval=HEALTH_S,
            **_ours(),
        )


def _redis(pool: ConnectionPool, queue_name: str) -> ArqRedis:
    pool.connection_kwargs["retry"] = Retry(
        ExponentialBackoff(cap=1.0, base=0.05),
        retries=30,
        supported_errors=(RedisConnectionError, RedisTimeoutError),
    )
    return ArqRedis(
        pool,
        job_serializer=_json.encode,
        job_deserializer=msgspec.json.decode,
        default_queue_name=queue_name,
    )


def _ours() -> dict[str, Any]:
    return {
        "handle_signals": False,
        "job_serializer": _json.encode,
        "job_deserializer": msgspec.json.decode,
        "log_results": False,
    }
