"""What a scrape says of the pool is true without any worker, and never late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pytest

from embedpool_shared.catalog import Catalog, KeyCard, ModelCard, encode_catalog
from embedpool_shared.jobs import LaneClass
from embedpool_shared.measures import MEASURES, UNKNOWN_MODEL, Combine, Role
from embedpool_shared.presence import API, WORKER, Presence
from embedpool_shared.provider_keys import KeyField
from embedpool_shared.telemetry.pool_gauges import PATIENCE_S, pool_gauges
from integration.by_hand import Hand
from integration.one_process import MODEL, Site, until

if TYPE_CHECKING:
    from support.valkey import RedisServer

KEY: Final = "openai/m#1"
CATALOG: Final = Catalog(
    models={MODEL: ModelCard(name=MODEL, providers=("openai",))},
    keys=(KeyCard(id=KEY, provider="openai", deployment="openai/m", rpm=100),),
)


async def publish(site: Site) -> None:
    await site.line("p").call("HSET", site.names.catalog, "models", encode_catalog(CATALOG))


async def seen(site: Site) -> Mapping[str, float]:
    """Every gauge by its name and labels."""
    readings = await pool_gauges(site.names, site.line, slots_per_key=8)
    return {
        " ".join((it.measure.name.removeprefix("embedpool_"), *it.labels)): it.value
        for it in readings
    }


async def test_every_gauge_of_the_whole_pool_is_there_before_anything_happened(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        await publish(site)

        names = {name.split()[0] for name in await seen(site)}

    wanted = {it.name for it in MEASURES if it.combine is Combine.POOL and it.role is Role.API}
    assert {f"embedpool_{name}" for name in names} == wanted


async def test_what_waits_is_true_without_any_worker(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await publish(site)
        api = site.api()
        await api.accepted(api.post(["a", "bb"], ["ccc"], tokens=9))
        await api.accepted(api.post(["dddd"], lane_class=LaneClass.BULK))

        found = await seen(site)

        assert found[f"queue_items {MODEL}"] == 4
        assert found[f"queue_bytes {MODEL}"] == 10
        assert found[f"queue_tokens {MODEL}"] == 18
        assert 0 < found[f"queue_oldest_seconds {MODEL} interactive"] < 30
        assert 0 < found[f"queue_oldest_seconds {MODEL} bulk"] < 30
        assert found["workers_alive"] == 0


async def test_a_lane_that_is_in_no_catalogue_is_an_unknown_models(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        await api.accepted(api.post(["a", "bb"]))

        async def is_announced() -> bool:
            return (await seen(site))[f"queue_items {UNKNOWN_MODEL}"] == 2

        await until(is_announced, "the lane counts")


async def test_a_ledger_that_nobody_rolls_up_grows_old(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await publish(site)
        api, hand = site.api(), Hand(site, "w1")
        await api.accepted(api.post(["a"]))
        (pack,) = await hand.take()
        assert (await seen(site))[f"rollup_lag_seconds {MODEL}"] == 0
        await hand.commit(list(pack.open.values()))

        async def is_late() -> bool:
            return 0 < (await seen(site))[f"rollup_lag_seconds {MODEL}"] < 30

        await until(is_late, "the entry is a moment old")


async def test_who_lives_is_counted_by_kind(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        for name in (f"{WORKER}h:w1", f"{WORKER}h:w2", f"{API}a1"):
            await Presence(site.line(name), site.names, name, on_seen=lambda _: None).beat()

        found = await seen(site)

    assert (found["workers_alive"], found["apis_alive"]) == (2, 1)


async def test_a_key_that_nobody_uses_is_ready_with_all_of_its_limit(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await publish(site)

        found = await seen(site)

    assert found[f"key_state openai {KEY} ready"] == 1
    assert found[f"key_state openai {KEY} cooling"] == 0
    assert found[f"key_slots openai {KEY}"] == 8
    assert found[f"key_headroom_ratio openai {KEY} requests"] == 1
    assert f"key_headroom_ratio openai {KEY} tokens" not in found


async def test_a_cooling_key_is_seen_with_what_is_left_of_its_rest(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await publish(site)
        line = site.line("k")
        seconds, _ = await line.call("TIME")
        until_ms = (int(seconds) + 60) * 1_000
        name = site.names.provider_key(KEY)
        await line.call("HSET", name, KeyField.COOLING_UNTIL, until_ms, KeyField.SLOTS, 3)

        found = await seen(site)

    assert found[f"key_state openai {KEY} cooling"] == 1
    assert found[f"key_state openai {KEY} ready"] == 0
    assert 50 < found[f"key_cooling_seconds openai {KEY}"] <= 60
    assert found[f"key_slots openai {KEY}"] == 3


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_redis_away_is_nothing_within_the_patience(valkey: RedisServer, how: str) -> None:
    async with Site(valkey.url) as site:
        await publish(site)
        if how == "silent":
            valkey.pause()
        else:
            valkey.stop()
        loop = asyncio.get_running_loop()
        began_at = loop.time()

        found = await seen(site)

        assert found == {}
        assert loop.time() - began_at < PATIENCE_S + 0.5
        valkey.restore()
