"""Two workers and two apis under load: every answer right, once, in order, whoever dies."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from embedpool_shared.jobs import LaneClass, MergeKey
from embedpool_worker.handover import hand_over
from integration.history import History
from integration.one_process import MODEL, Embedder, Site, right, until, vectors_in

if TYPE_CHECKING:
    from integration.one_process import ApiSide
    from support.valkey import RedisServer


@pytest.mark.parametrize("is_supervised", [True, False], ids=["handed over", "lease runs out"])
async def test_a_worker_killed_mid_flight_costs_no_answer_and_doubles_none(
    valkey: RedisServer, *, is_supervised: bool
) -> None:
    async with Site(valkey.url) as site:
        lease_s = 5.0 if is_supervised else 0.5
        embedder = Embedder(latency_s=0.01)
        victim = site.worker(embedder, "victim", lease_s=lease_s)
        survivor = site.worker(embedder, "survivor", lease_s=lease_s)
        history = History(site.api())
        running = [
            site.spawn(history.ask_each([f"t{c}-{n}" for n in range(50)])) for c in range(40)
        ]
        await until(lambda: len(history.answered) > 300, "the load is on")
        await until(lambda: site.holds_anything("victim"), "the victim has work")

        loop = asyncio.get_running_loop()
        await victim.kill()
        died_at = loop.time()
        if is_supervised:
            await hand_over(site.line("supervisor"), site.names, consumer="victim")
        else:
            survivor.pool.hurry()  # as when the victim's presence has ended
            await until(lambda: site.holds_nothing("victim"), "its leases have run out")
        recovered_s = loop.time() - died_at
        await asyncio.gather(*running)

        history.check(2_000)
        assert recovered_s <= (1.0 if is_supervised else 2 * lease_s)
        await until(site.is_quiet, "nothing is left")
        history.check_bill(await site.ledger())


async def test_answers_of_two_apis_never_meet_and_keep_their_order(valkey: RedisServer) -> None:
    """Jobs of many sizes, models of two sizes and both classes, interleaved by a seeded die."""
    dice = Random(7)
    async with Site(valkey.url) as site:
        embedder = Embedder(latency_s=0.001)
        for worker_id in ("w1", "w2"):
            site.worker(embedder, worker_id, max_items=7)
        apis = [site.api("a1"), site.api("a2")]
        merges = [MergeKey(MODEL), MergeKey(MODEL, dimensions=3), MergeKey(MODEL, scope="team")]

        async def one_request(api: ApiSide, number: int) -> None:
            jobs = [
                [f"{number}/{j}/{i}/{dice.random()}" for i in range(dice.randint(1, 9))]
                for j in range(dice.randint(1, 4))
            ]
            answer = api.post(
                *jobs, merge=dice.choice(merges), lane_class=dice.choice(list(LaneClass))
            )
            if dice.random() < 0.2:
                await asyncio.sleep(0)
            assert vectors_in(await answer.done) == right([text for job in jobs for text in job])

        await asyncio.gather(*(one_request(dice.choice(apis), n) for n in range(300)))

        await until(site.is_quiet, "nothing is left")
        assert all(len(call) <= 7 for call in embedder.calls)
        for api_id in ("a1", "a2"):
            assert await site.call("EXISTS", site.lane.inbox(api_id)) == 1


async def test_requests_of_many_callers_share_few_calls(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        embedder = Embedder(latency_s=0.02)
        site.worker(embedder)
        history = History(site.api())

        await asyncio.gather(
            *(history.ask_each([f"t{c}-{n}" for n in range(10)]) for c in range(100))
        )

        history.check(1_000)
        assert len(embedder.calls) <= 100
