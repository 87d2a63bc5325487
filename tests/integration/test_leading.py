"""One worker leads while there are batches, and nobody while there are none."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from embedpool_shared.scripts import script
from embedpool_worker.bulk.leading import ASK_EVERY_S, LEASE_S, Leading
from integration.one_process import Site, until

if TYPE_CHECKING:
    from support.valkey import RedisServer


async def ask(site: Site, owner: str, *, lease_ms: int = 60_000) -> int:
    names = [site.names.bulk_lease, site.names.active_batches]
    line = site.line("lead")
    epoch, _ = await line.run(script("lead"), names, [owner, lease_ms])
    return int(epoch)


async def activate(site: Site, batch_id: str = "b") -> None:
    await site.call("ZADD", site.names.active_batches, 1, batch_id)


async def test_nobody_leads_while_no_batch_is_active(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        assert await ask(site, "w1") == 0
        assert await site.call("EXISTS", site.names.bulk_lease) == 0


async def test_one_leads_and_the_others_wait(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await activate(site)

        epoch = await ask(site, "w1")

        assert epoch > 0
        assert await ask(site, "w2") == 0
        assert await ask(site, "w1") == epoch


async def test_a_lease_that_was_given_back_is_the_next_ones_under_a_younger_epoch(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        epoch = await ask(site, "w1")

        assert await ask(site, "w1", lease_ms=0) == 0

        assert await ask(site, "w2") > epoch


async def test_nobody_gives_back_what_is_another_ones(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        epoch = await ask(site, "w1")

        assert await ask(site, "w2", lease_ms=0) == 0

        assert await ask(site, "w1") == epoch


async def test_a_lease_that_lapsed_begins_a_younger_epoch_even_for_its_owner(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        epoch = await ask(site, "w1", lease_ms=1)
        await asyncio.sleep(0.01)  # on Redis' clock

        assert await ask(site, "w1") > epoch


async def test_a_leader_lets_go_when_the_last_batch_has_ended(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        epoch = await ask(site, "w1")
        await site.call("ZREM", site.names.active_batches, "b")

        assert await ask(site, "w1") == 0
        await activate(site)

        assert await ask(site, "w2") > epoch


async def test_epochs_grow_even_where_the_lease_was_forgotten(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        seconds, _ = await site.call("TIME")
        epoch = await ask(site, "w1")
        await site.call("DEL", site.names.bulk_lease)

        assert await ask(site, "w2") >= epoch >= int(seconds)


class Terms:
    """What a leader did, as a test sees it."""

    def __init__(self, site: Site, worker_id: str) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.may_lead = True
        self.leading = Leading(
            site.line(f"{worker_id}-lead"),
            site.names,
            self._lead,
            worker_id=worker_id,
            may_lead=lambda: self.may_lead,
        )
        self._task = site.spawn(self.leading.run())

    async def _lead(self, epoch: int) -> None:
        self.begun.append(epoch)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(epoch)

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.leading.leave()


async def test_whoever_waits_leads_as_soon_as_a_dead_leaders_lease_lapses(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        await ask(site, "dead", lease_ms=500)
        began_at = asyncio.get_running_loop().time()
        heir = Terms(site, "heir")

        await until(lambda: bool(heir.begun), "it leads", patience_s=1.5)

        assert asyncio.get_running_loop().time() - began_at > 0.3
        await heir.stop()


async def test_whoever_waits_for_a_living_leader_asks_no_more_often_than_with_no_work(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        first = Terms(site, "first")
        await until(lambda: bool(first.begun), "it leads")
        Terms(site, "second")
        before = (await site.commands_by_process())["second"]

        await asyncio.sleep(2 * ASK_EVERY_S + 1.0)

        assert (await site.commands_by_process())["second"] - before <= 3
        assert len(first.begun) == 1
        await first.stop()


async def test_another_worker_takes_over_from_one_that_stops(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        first = Terms(site, "w1")
        await until(lambda: bool(first.begun), "the first one leads")
        second = Terms(site, "w2")

        await first.stop()
        await until(lambda: bool(second.begun), "the second one leads")

        assert first.ended == first.begun
        assert second.begun > first.begun
        await second.stop()


async def test_a_leader_that_lost_its_lease_ends_its_work(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        first = Terms(site, "w1")
        await until(lambda: bool(first.begun), "it leads")

        await site.call("HSET", site.names.bulk_lease, "owner", "somebody else")
        await until(lambda: bool(first.ended), "its work has ended")
        await first.stop()


async def test_a_process_that_sees_another_store_gives_the_lease_back(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        first = Terms(site, "w1")
        await until(lambda: bool(first.begun), "it leads")

        first.may_lead = False
        await until(lambda: bool(first.ended), "its work has ended")

        assert await ask(site, "w2") > 0
        await first.stop()


@pytest.mark.parametrize("state", ["paused", "killed"])
async def test_a_leader_that_cannot_renew_its_lease_ends_its_work(
    valkey: RedisServer, state: str
) -> None:
    async with Site(valkey.url) as site:
        await activate(site)
        first = Terms(site, "w1")
        await until(lambda: bool(first.begun), "it leads")

        (valkey.pause if state == "paused" else valkey.kill)()
        await until(lambda: bool(first.ended), "its work has ended", patience_s=LEASE_S + 0.5)
        valkey.restore()
        await first.stop()
