"""Redis away, empty, forgetful, paused, or far away: nothing lost, wrong, doubled or hung."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP
from integration.history import History
from integration.one_process import Embedder, Site, observed, right, until
from support.proxy import FaultProxy
from support.valkey import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator


CALLERS = 20


@pytest.fixture
def durable() -> Iterator[RedisServer]:
    """A Valkey of the test's own, which keeps every write."""
    with RedisServer(appendonly=True, settings={"appendfsync": "always"}) as server:
        yield server


def under_load(site: Site, history: History, requests: int) -> list[asyncio.Task[None]]:
    """Callers that ask one text after the other, `requests` in all."""
    each = requests // CALLERS
    return [
        site.spawn(history.ask_each([f"t{caller}-{n}" for n in range(each)]))
        for caller in range(CALLERS)
    ]


async def test_requests_accepted_before_redis_died_are_answered_after_it_came_back(
    durable: RedisServer,
) -> None:
    async with Site(durable.url) as site:
        api, embedder = site.api(), Embedder()
        embedder.gate.clear()
        site.worker(embedder)
        leased = api.post(["leased"])
        await until(lambda: bool(embedder.calls), "the call is under way")
        waiting = api.post(["waiting"])
        await api.accepted(waiting)

        durable.kill()
        embedder.gate.set()
        await until(lambda: api.lanes.is_away("m"), "the api has noticed")
        durable.start()

        assert [r.vectors for r in await leased.done] == right(["leased"])
        assert [r.vectors for r in await waiting.done] == right(["waiting"])
        await until(site.is_quiet, "nothing is left")
        assert len(await site.ledger()) == 2


async def test_redis_killed_and_restarted_under_load_costs_no_answer(
    durable: RedisServer,
) -> None:
    async with Site(durable.url) as site:
        site.worker(Embedder(latency_s=0.005))
        history = History(site.api())
        running = under_load(site, history, 1_000)

        for threshold in (150, 250):
            await history.has_more(threshold)
            durable.kill()
            durable.start()
        await asyncio.gather(*running)

        history.check(1_000)
        await until(site.is_quiet, "nothing is left")
        history.check_bill(await site.ledger())


async def test_a_redis_that_comes_back_empty_is_served_again_without_a_restart(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, embedder = site.api(), Embedder()
        embedder.gate.clear()
        observed(site, api, site.worker(embedder))
        accepted = api.post(["accepted"])
        await until(lambda: bool(embedder.calls), "the call is under way")
        await until(lambda: site.has_presence(2), "Redis knows both")

        valkey.kill()
        valkey.start()
        embedder.gate.set()

        assert [r.vectors for r in await accepted.done] == right(["accepted"])
        assert await api.ask("new") == right(["new"])
        await until(lambda: site.has_lanes(["m"]), "the lane is announced again")
        await until(site.is_quiet, "nothing is left")


async def test_a_worker_that_starts_after_redis_came_back_empty_finds_the_lane(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        old = site.worker(Embedder())
        observed(site, api, old)
        await until(lambda: site.has_presence(2), "Redis knows both")
        assert await api.ask("before") == right(["before"])
        valkey.kill()
        valkey.start()
        await until(site.has_group, "the old worker has made the group again")
        await old.kill()

        site.worker(Embedder(), "new")

        assert await api.ask("after") == right(["after"])


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["FLUSHALL"], id="everything is deleted"),
        pytest.param(["SCRIPT", "FLUSH"], id="the scripts are forgotten"),
        pytest.param(["XGROUP", "DESTROY", "STREAM", GROUP], id="the group is destroyed"),
        pytest.param(["CLIENT", "PAUSE", "300", "ALL"], id="clients are paused"),
        pytest.param(["CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "NO"], id="all are cut off"),
    ],
)
async def test_what_an_operator_may_do_to_redis_under_load_heals(
    valkey: RedisServer, command: list[str]
) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        worker = site.worker(Embedder(latency_s=0.005), lease_s=1.0)
        observed(site, api, worker)
        history = History(api)
        running = under_load(site, history, 600)
        await until(lambda: len(history.answered) > 200, "the load is on")

        stream = site.lane.stream(LaneClass.INTERACTIVE)
        with valkey.client() as client:
            client.execute_command(*(stream if word == "STREAM" else word for word in command))
        await asyncio.gather(*running)

        history.check(600)
        assert worker.is_running
        await until(lambda: site.has_waiting(0), "nothing waits")
        await until(lambda: site.has_pending(0), "nothing is leased")
        history.check_bill(await site.ledger(), is_complete=command != ["FLUSHALL"])


@pytest.mark.parametrize("side", ["api", "worker"])
async def test_fifty_cut_connections_cost_no_answer_and_double_none(
    valkey: RedisServer, side: str
) -> None:
    dice = Random(11)
    async with FaultProxy(valkey.socket_path) as proxy, Site(valkey.url) as site:
        via = f"redis://127.0.0.1:{proxy.port}"
        worker = site.worker(
            Embedder(latency_s=0.005), lease_s=1.0, via=via if side == "worker" else None
        )
        history = History(site.api(via=via if side == "api" else None))
        is_over = asyncio.Event()

        async def callers() -> None:
            number = 0
            while not is_over.is_set():
                await asyncio.gather(
                    *(history.ask_each([f"t{c}-{number}"]) for c in range(CALLERS))
                )
                number += 1

        running = site.spawn(callers())
        for _ in range(50):
            await history.has_more(dice.randint(1, CALLERS))
            proxy.cut()
        is_over.set()
        await running

        history.check(len(history.asked))
        assert worker.is_running
        await until(site.is_quiet, "nothing is left")
        history.check_bill(await site.ledger())


async def test_a_pack_read_onto_a_connection_that_dies_is_found_again_before_its_lease_ends(
    valkey: RedisServer,
) -> None:
    async with FaultProxy(valkey.socket_path) as proxy, Site(valkey.url) as site:
        via = f"redis://127.0.0.1:{proxy.port}"
        site.worker(Embedder(), lease_s=3_600, via=via)
        api = site.api()
        assert await api.ask("before") == right(["before"])

        proxy.stall()
        answer = api.post(["during"])
        await until(lambda: site.has_pending(1), "the server has sent the pack")
        proxy.cut()
        proxy.flow()

        assert [r.vectors for r in await answer.done] == right(["during"])


async def test_a_stalled_line_is_given_up_and_the_request_answered_over_a_new_one(
    valkey: RedisServer,
) -> None:
    async with FaultProxy(valkey.socket_path) as proxy, Site(valkey.url) as site:
        site.worker(Embedder())
        api = site.api(via=f"redis://127.0.0.1:{proxy.port}")
        assert await api.ask("before") == right(["before"])

        proxy.stall()
        answer = api.post(["during"])
        await until(lambda: api.lanes.is_away("m"), "the api has noticed")
        proxy.cut()
        proxy.flow()

        assert [r.vectors for r in await answer.done] == right(["during"])
