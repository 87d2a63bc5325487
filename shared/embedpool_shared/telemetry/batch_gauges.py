"""How many batches are in which state, read from Redis when somebody scrapes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import ENDED, Batch
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.measures import JOB_STATE, measure
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.telemetry.exposition import Reading

PATIENCE_S: Final = 1.0
RECENT_S: Final = 24 * 60 * 60
MAX_BATCHES: Final = 1_000
"""The newest are counted; a scrape is no census."""


async def batch_gauges(names: Names, line: Callable[[str], Line]) -> list[Reading]:
    """Count the batches of the last 24 hours and those that are not over; none while Redis is away.

    A batch that was made earlier is counted only while it goes on.
    """
    records = line("bulk")
    try:
        async with asyncio.timeout(PATIENCE_S):
            ((seconds, _),) = await records.call_all([("TIME",)])
            batches = await BatchRecords(records, names).list(None, limit=MAX_BATCHES)
    except (QueueUnavailable, TimeoutError):
        return []  # `redis_up` says it
    finally:
        await records.close()
    counts = Counter(batch.status.value for batch in batches if _counts(batch, now=float(seconds)))
    return [Reading(measure("bulk_jobs"), (state,), counts[state]) for state in JOB_STATE.values]


def _counts(batch: Batch, *, now: float) -> bool:
    return batch.status not in ENDED or batch.record.created_at > now - RECENT_S
