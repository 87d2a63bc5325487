"""Tells the worker that runs batches of a new one: the only module of the api that knows arq.

A job is no more than a hint. Whoever runs batches looks through all that have not ended anyway.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec
from arq.connections import ArqRedis

from embedpool_shared.batches import BATCH_FUNCTION

if TYPE_CHECKING:
    from redis.asyncio.connection import ConnectionPool

    from embedpool_shared.names import Names

PATIENCE_S: Final = 5.0

log = logging.getLogger(__name__)
_json: Final = msgspec.json.Encoder()


class BatchJobs:
    """Enqueues arq jobs; connects when there is one."""

    def __init__(self, pool: ConnectionPool, names: Names) -> None:
        """Enqueue where `pool` leads."""
        self._redis = ArqRedis(
            pool,
            job_serializer=_json.encode,
            job_deserializer=msgspec.json.decode,
            default_queue_name=names.bulk_jobs,
        )

    async def enqueue(self, batch_id: str) -> None:
        """Enqueue the job that attends a batch; a failure is only logged."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._redis.enqueue_job(BATCH_FUNCTION, batch_id, _job_id=batch_id)
        except Exception as away:  # noqa: BLE001 (a hint that fails must not end the process)
            log.warning("batch_not_enqueued id=%s error=%s", batch_id, type(away).__name__)

    async def close(self) -> None:
        """Hang up."""
        await self._redis.aclose(close_connection_pool=True)
