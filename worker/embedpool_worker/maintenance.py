"""The slow chores, as arq cron jobs: the only module of the worker that knows arq.

arq wakes only at its polls: nothing here may matter within a minute. Jobs are JSON, never pickle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

import msgspec
from arq.connections import ArqRedis
from arq.cron import cron
from arq.worker import Worker
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, LaneNames, Names
from embedpool_shared.redis import Line, RedisRefused
from embedpool_worker.commit import LEDGER_BOUND
from embedpool_worker.handover import drop_consumer

POLL_S: Final = 10.0
HEALTH_S: Final = 60

_json = msgspec.json.Encoder()


class Housekeeper:
    """What has to be tidied in every lane."""

    def __init__(self, line: Line, directory: Line, names: Names) -> None:
        """Own a line to the lanes, and one to the list of them."""
        self._line = line
        self._directory = directory
        self._names = names

    async def tidy(self, alive: frozenset[str]) -> None:
        """Drop consumers of dead workers that hold nothing, and bound ledgers.

        By length alone, as commits do: while accounts are out of reach no record is too old to be
        rolled up, and a lane that only ever sees cancellations has no commit that bounds it.
        """
        for _, fields in await self._directory.call("XRANGE", self._names.lanes, "-", "+") or []:
            lane = self._names.lane(fields[1].decode())
            await self._line.call("XTRIM", lane.ledger, "MAXLEN", "~", LEDGER_BOUND)
            for lane_class in LaneClass:
                with suppress(RedisRefused):  # a stream nobody has used yet
                    await self._drop_dead_consumers(lane, lane_class, alive)

    async def _drop_dead_consumers(
        self, lane: LaneNames, lane_class: LaneClass, alive: frozenset[str]
    ) -> None:
        for flat in await self._line.call("XINFO", "CONSUMERS", lane.stream(lane_class), GROUP):
            name = dict(zip(flat[::2], flat[1::2], strict=True))[b"name"].decode()
            # One that still holds something is kept: a living sweeper takes that over first.
            if name not in alive:
                await drop_consumer(self._line, lane, lane_class, consumer=name)


def maintenance_worker(
    pool: ConnectionPool, names: Names, tidy: Callable[[], Awaitable[None]]
) -> Worker:
    """Build the arq worker that runs the chores; one of all worker processes does each."""

    async def tidy_lanes(_context: dict[Any, Any]) -> None:
        try:
            await tidy()
        except QueueUnavailable:
            return  # the next quarter of an hour will do

    pool.connection_kwargs["retry"] = Retry(
        ExponentialBackoff(cap=1.0, base=0.05),
        retries=30,
        supported_errors=(RedisConnectionError, RedisTimeoutError),
    )
    redis = ArqRedis(
        pool,
        job_serializer=_json.encode,
        job_deserializer=msgspec.json.decode,
        default_queue_name=names.maintenance,
    )
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
        redis_pool=redis,
        handle_signals=False,
        poll_delay=POLL_S,
        health_check_interval=HEALTH_S,
        job_serializer=_json.encode,
        job_deserializer=msgspec.json.decode,
        log_results=False,
    )


async def run_maintenance(build: Callable[[], Worker]) -> None:
    """Run the chores for ever; a Redis that is away only delays them."""
    while True:
        worker = build()
        try:
            await worker.async_run()
        except RedisError:
            await asyncio.sleep(POLL_S)
        finally:
            # arq's own goodbye needs Redis; its connections are closed with the process anyway.
            with suppress(RedisError):
                await worker.close()
