"""Worker processes die by SIGKILL while they run a batch, again and again; the batch does not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.models import openai_entry
from e2e.pools import Fleet
from embedpool_shared.batches import BatchField, Status
from integration.batches import Batches, ids, line_of
from integration.one_process import Site, until
from support.fake_provider import FakeProvider
from support.stores import FolderStore
from support.valkey import RedisServer

LINES: Final = 12_000
MODEL: Final = "small"
WINDOW: Final = 16_384


@asynccontextmanager
async def running(
    valkey: RedisServer, fake: FakeProvider, directory: Path
) -> AsyncIterator[tuple[Site, Batches, Fleet]]:
    """Workers to be, and the batches they will find."""
    files = directory / "files"
    files.mkdir()
    config = {
        "model_list": [openai_entry(MODEL, fake, max_items_per_call=128)],
        "files": {"url": f"file://{files}"},
    }
    async with Site(valkey.url) as site:
        batches = Batches(site, FolderStore(f"file://{files}"))
        with Fleet(valkey.url, directory, config=config) as fleet:
            yield site, batches, fleet


def given() -> Iterator[dict[str, Any]]:
    """The lines of a batch."""
    return (line_of(f"{n}", f"text {n}", model=MODEL) for n in range(LINES))


@pytest.mark.long
@pytest.mark.timeout(180)
def test_killed_workers_cost_a_window_each_and_no_line(tmp_path: Path) -> None:
    with RedisServer() as valkey, FakeProvider.in_thread(latency_s=0.2) as fake:
        asyncio.run(_run(valkey, fake, tmp_path))


async def _run(valkey: RedisServer, fake: FakeProvider, directory: Path) -> None:
    async with running(valkey, fake, directory) as (site, batches, fleet):
        batch_id = await batches.create(given())
        for number in range(3):
            worker = await asyncio.to_thread(fleet.worker, f"victim{number}")
            await batches.progressed(batch_id, 2_000 * (number + 1))
            worker.kill()
        await asyncio.to_thread(fleet.worker, "heir")
        batch = await batches.ended(batch_id, patience_s=60.0)

        rows = batches.outputs(batch)
        records = [one for one in await site.ledger(MODEL) if one.pack_id == batch_id]
    assert batch.status is Status.COMPLETED
    assert batch.number(BatchField.COMPLETED) == LINES
    assert ids(rows) == [str(n) for n in range(LINES)]
    assert sum(one.requests for one in records) == LINES
    assert all(one.used + one.waste == one.paid + one.saved for one in records)
    sent = Counter(item for call in fake.calls for item in call.items)
    assert sum(sent.values()) <= LINES + 3 * WINDOW


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_worker_that_stops_hands_its_batch_on_within_its_grace(tmp_path: Path) -> None:
    with RedisServer() as valkey, FakeProvider.in_thread(latency_s=0.2) as fake:
        asyncio.run(_stop(valkey, fake, tmp_path))


async def _stop(valkey: RedisServer, fake: FakeProvider, directory: Path) -> None:
    async with running(valkey, fake, directory) as (site, batches, fleet):
        batch_id = await batches.create(given())
        first = await asyncio.to_thread(fleet.worker, "first")
        await batches.progressed(batch_id, 1)
        began_at = time.monotonic()
        assert await asyncio.to_thread(first.stop) == 0
        took_s = time.monotonic() - began_at
        await asyncio.to_thread(fleet.worker, "second")
        batch = await batches.ended(batch_id, patience_s=60.0)
        await until(lambda: site.is_rolled_up(MODEL), "its records are rolled up")
        paid = sum(one.paid for one in await site.ledger(MODEL))

    assert took_s < 4.0
    assert ids(batches.outputs(batch)) == [str(n) for n in range(LINES)]
    assert paid == fake.totals.tokens
