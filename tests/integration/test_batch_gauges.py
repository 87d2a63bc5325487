"""How many batches are in which state, as a scrape sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedpool_shared.batches import Status
from embedpool_shared.measures import JOB_STATE
from embedpool_shared.telemetry.batch_gauges import RECENT_S, batch_gauges
from integration.batches import batches_on, line_of
from integration.one_process import Site
from support.bulk_records import batch_record_of

if TYPE_CHECKING:
    from support.valkey import RedisServer


async def counted(site: Site) -> dict[str, float]:
    readings = await batch_gauges(site.names, site.line)
    return {reading.labels[0]: reading.value for reading in readings if reading.value}


async def test_every_state_is_counted_even_where_there_is_no_batch(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        readings = await batch_gauges(site.names, site.line)

        assert [reading.labels for reading in readings] == [(one,) for one in JOB_STATE.values]
        assert await counted(site) == {}


async def test_batches_are_counted_by_their_state(valkey: RedisServer, tmp_path: Path) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        made = [await batches.create([line_of("a", "x")]) for _ in range(4)]
        steps = {made[0]: Status.IN_PROGRESS, made[1]: Status.FAILED, made[2]: Status.FAILED}
        for batch_id, to in steps.items():
            await batches.records.step(batch_id, to, from_={Status.VALIDATING})

        assert await counted(site) == {"validating": 1, "in_progress": 1, "failed": 2}


async def test_what_ended_long_ago_is_not_counted_and_what_goes_on_is(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        new = (await batches.read(await batches.create([line_of("a", "x")]))).record
        for name, to in (("old", Status.IN_PROGRESS), ("older", Status.FAILED)):
            record = batch_record_of(
                name, reads=new.input_file_id, created_at=new.created_at - RECENT_S - 1
            )
            await batches.records.create(record)
            await batches.records.step(name, to, from_={Status.VALIDATING})

        assert await counted(site) == {"validating": 1, "in_progress": 1}


async def test_nothing_is_said_while_redis_is_away(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        valkey.pause()
        try:
            assert await batch_gauges(site.names, site.line) == []
        finally:
            valkey.resume()
