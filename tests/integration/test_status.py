"""What the status page sees of a real server: all of it, at little cost, and whether it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from typing_extensions import override

from embedpool_api.status.collector import FRESH_S, PATIENCE_S, Collector
from embedpool_shared.catalog import Catalog, KeyCard, ModelCard
from embedpool_shared.jobs import LaneClass, encode
from embedpool_shared.names import Names
from embedpool_shared.presence import API, WORKER, Presence
from embedpool_shared.provider_keys import KeyField, describe
from embedpool_shared.scripts import Script
from integration.by_hand import Hand
from integration.one_process import MODEL, Counting, Embedder, Site, until
from support.valkey import RedisServer
from unit.api.usage_records import record

CATALOG: Final = Catalog(
    models={MODEL: ModelCard(name=MODEL, providers=("openai",), max_items_per_call=8)},
    keys=tuple(
        KeyCard(id=f"openai/m#{n}", provider="openai", deployment="openai/m") for n in (1, 2)
    ),
)
Shown = Mapping[str, Any]


class Metered(Counting):
    """A line that counts the writes it makes, however many commands are in one."""

    writes = 0

    @override
    async def call_all(self, commands: Sequence[tuple[Any, ...]], **options: Any) -> list[Any]:
        self.writes += 1
        return await super().call_all(commands, **options)

    @override
    async def run_all(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        **options: Any,
    ) -> list[Any]:
        self.writes += 1
        return await super().run_all(script, calls, **options)


class Watcher:
    """Somebody who has the status page open."""

    def __init__(self, site: Site) -> None:
        self.lines: dict[str, Metered] = {}
        self._site = site
        self.catalog: Catalog | None = CATALOG
        self.collector = Collector(site.names, self._line, catalog=lambda: self.catalog)

    def _line(self, role: str) -> Metered:
        self.lines[role] = self._site.line_of(Metered, role)
        return self.lines[role]

    async def pool(self) -> Shown:
        """Look anew."""
        self.stale()
        look = await self.collector.look()
        assert not look.is_redis_away
        assert look.snapshot is not None
        return look.snapshot

    async def lane(self, name: str = MODEL) -> Shown:
        (lane,) = [it for it in (await self.pool())["lanes"] if it["name"] == name]
        found: Shown = lane
        return found

    def stale(self) -> None:
        """Forget how long ago the last look was."""
        self.collector._asked_at = float("-inf")


@asynccontextmanager
async def watching(valkey: RedisServer) -> AsyncIterator[tuple[Site, Watcher]]:
    async with Site(valkey.url) as site:
        watcher = Watcher(site)
        try:
            yield site, watcher
        finally:
            await watcher.collector.close()


async def test_an_empty_pool_is_seen_as_one(valkey: RedisServer) -> None:
    async with watching(valkey) as (_, watcher):
        pool = await watcher.pool()

        assert (pool["lanes"], pool["workers"], pool["apis"]) == ([], [], [])
        assert (pool["faults"], pool["requests"]) == ([], [])
        assert [key["id"] for key in pool["keys"]] == [card.id for card in CATALOG.keys]
        assert pool["models"] == 1


async def test_before_any_catalogue_there_is_something_to_see(valkey: RedisServer) -> None:
    async with watching(valkey) as (_, watcher):
        watcher.catalog = None

        assert (await watcher.pool())["keys"] == []


async def test_waiting_work_is_seen_in_items_and_by_its_age(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        api = site.api()
        await api.accepted(api.post(["a", "bb"], ["ccc"]))
        await api.accepted(api.post(["dddd"], lane_class=LaneClass.BULK))

        lane = await watcher.lane()

        assert (lane["items"], lane["bytes"]) == (4, 10)
        assert (lane["packs"], lane["packs_leased"]) == (2, 0)
        assert 0 < lane["oldest_s"] < 30


async def test_leased_packs_are_seen_with_the_worker_that_holds_them(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        api, hand = site.api(), Hand(site, "w1")
        presence = Presence(site.line("p"), site.names, f"{WORKER}host:w1", on_seen=lambda _: None)
        await presence.beat()
        await api.accepted(api.post(["a"]))
        (pack,) = await hand.take()

        pool = await watcher.pool()

        assert pool["lanes"][0]["packs_leased"] == 1
        assert pool["workers"][0].packs == 1

        await hand.commit(list(pack.open.values()))
        after = await watcher.pool()
        assert (after["lanes"][0]["items"], after["lanes"][0]["oldest_s"]) == (0, 0.0)
        assert after["workers"][0].packs == 0


async def test_served_items_are_seen(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        api, _ = site.api(), site.worker(Embedder())
        await api.ask("a", "b", "c")

        assert (await watcher.lane())["served_per_s"] == 3


async def test_the_living_are_seen_and_the_dead_are_not(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        alive = Presence(site.line("p1"), site.names, f"{API}a1", on_seen=lambda _: None)
        await alive.beat()
        await site.call("ZADD", site.names.alive, 1, f"{WORKER}dead")

        pool = await watcher.pool()

        assert (pool["apis"], pool["workers"]) == (["a1"], [])


async def test_keys_are_seen_as_all_workers_know_them(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        line = site.line("keys")
        name = site.names.provider_key("openai/m#2")
        await describe(line, name, {KeyField.PROVIDER: "openai", KeyField.SHOWN: "…abcd"})
        seconds, _ = await site.call("TIME")
        until_ms = (int(seconds) + 60) * 1_000
        await site.call("HSET", name, "retired_until", until_ms, "reason", "rejected")

        unused, retired = (await watcher.pool())["keys"]

        assert (unused["provider"], unused["condition"]) == (None, "ready")
        assert (retired["provider"], retired["key"]) == ("openai", "…abcd")
        assert (retired["condition"], retired["reason"]) == ("retired", "rejected")
        assert 50 < retired["rests_for_s"] <= 60


async def test_dead_letters_and_failures_are_seen_without_their_text(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        api, hand = site.api(), Hand(site)
        await api.accepted(api.post(["a canary text"]))
        (pack,) = await hand.take()
        await hand.hand_back.bury(pack.open[0])
        failed = encode([record("f", reason="ProviderFailed")])
        await site.call("XADD", Names().spend_log, "*", "r", failed, "i", "5-0", "l", MODEL)

        pool = await watcher.pool()

        assert pool["lanes"][0]["dead_letters"] == 1
        assert {fault.kind for fault in pool["faults"]} == {"dead letter", "ProviderFailed"}
        assert "canary" not in repr(pool)


async def test_full_batches_are_seen_as_full(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        api = site.api()
        await api.accepted(api.post(["makes the lane"]))
        together = [record(str(at), items=2) for at in range(4)]
        fields = ("r", encode(together), "i", "5-0", "l", MODEL)
        await site.call("XADD", site.names.spend_log, "*", *fields)

        lane = await watcher.lane()

        assert (lane["items_per_batch"], lane["requests_per_batch"]) == (8.0, 4.0)
        assert lane["fill_ratio"] == 1.0


async def test_however_many_look_redis_is_asked_once_a_second(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        api = site.api()
        await api.accepted(api.post(["a"]))

        looks = await asyncio.gather(*(watcher.collector.look() for _ in range(50)))
        again = await watcher.collector.look()

        assert {line.writes for line in watcher.lines.values()} == {1}
        assert all(look.snapshot is looks[0].snapshot for look in [*looks, again])
        assert again.age_s is not None
        assert again.age_s < FRESH_S


async def test_looking_changes_nothing(valkey: RedisServer) -> None:
    async with watching(valkey) as (site, watcher):
        api = site.api()
        await api.accepted(api.post(["a"]))
        before = valkey_says(valkey)

        await watcher.pool()

        assert valkey_says(valkey) == before


def valkey_says(valkey: RedisServer) -> tuple[Any, list[bytes]]:
    """Count the changes Valkey made since it began, and name what it has."""
    with valkey.client() as client:
        changes = client.info("persistence")["rdb_changes_since_last_save"]
        return changes, sorted(client.keys("*"))


@pytest.mark.parametrize("trouble", ["kill", "pause"])
async def test_while_redis_is_away_the_last_look_stays_and_is_marked(
    valkey: RedisServer, trouble: str
) -> None:
    async with watching(valkey) as (site, watcher):
        loop = asyncio.get_running_loop()
        api = site.api()
        await api.accepted(api.post(["a"]))
        seen = await watcher.pool()
        getattr(valkey, trouble)()
        began_at = loop.time()

        watcher.stale()
        look = await watcher.collector.look()

        assert look.is_redis_away
        assert look.snapshot == seen
        assert loop.time() - began_at < PATIENCE_S + 0.5
        if trouble == "kill":
            valkey.start()
        else:
            valkey.resume()

        async def is_back() -> bool:
            watcher.stale()
            return not (await watcher.collector.look()).is_redis_away

        await until(is_back, "Redis is seen again")


async def test_a_redis_never_reached_shows_nothing(valkey: RedisServer) -> None:
    async with watching(valkey) as (_, watcher):
        valkey.kill()

        look = await watcher.collector.look()

        assert (look.snapshot, look.age_s, look.is_redis_away) == (None, None, True)
        valkey.start()


async def test_who_gives_up_waiting_spoils_nobody_elses_look(valkey: RedisServer) -> None:
    async with watching(valkey) as (_, watcher):
        hasty = asyncio.create_task(watcher.collector.look())
        patient = asyncio.create_task(watcher.collector.look())
        await asyncio.sleep(0)

        hasty.cancel()

        assert (await patient).snapshot is not None
