"""The enqueue script, by way of an api's outbox: once, in order, and no more than may wait."""

from __future__ import annotations

import asyncio

import pytest

from embedpool_api.outbox import QueueBounds
from embedpool_shared.errors import Overloaded, QueueUnavailable
from embedpool_shared.jobs import LaneClass, pack_from
from integration.by_hand import Hand
from integration.one_process import MODEL, Embedder, Site, right, until
from support.valkey import RedisServer


async def test_an_enqueue_repeated_leaves_one_entry_and_counts_it_once(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        answer = api.post(["one", "two"], tokens=7)
        await api.accepted(answer)

        for _ in range(3):
            api.lanes.repeat_all()
            await api.flushed()

        assert await site.waiting() == 1
        assert await site.depth() == (2, 6, 7)


async def test_a_pack_that_redis_lost_is_enqueued_again_under_its_id(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        answer = api.post(["one"])
        await api.accepted(answer)
        (first,) = await site.entries()
        await site.call("FLUSHALL")

        api.lanes.repeat_all()

        await until(lambda: site.has_waiting(1), "the pack is back")
        (again,) = await site.entries()
        assert again[b"id"] == first[b"id"]
        (before,), (after,) = (pack_from(pack[b"p"]).jobs for pack in (first, again))
        assert after.inputs == before.inputs
        assert after.budget_ms <= before.budget_ms
        assert await site.depth() == (1, 3, 0)


async def test_a_pack_repeated_without_its_ended_jobs_says_which_it_has(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        answers = [api.post([text]) for text in ("a", "bb", "ccc")]
        await api.accepted(*answers)
        await site.call("FLUSHALL")
        api.give_up(answers[1])

        api.lanes.repeat_all()

        await until(lambda: site.has_waiting(1), "the pack is back")
        (again,) = await site.entries()
        assert [job.number for job in pack_from(again[b"p"]).jobs] == [0, 2]
        assert again[b"n"] == b"0,2"
        assert await site.depth() == (2, 4, 0)


@pytest.mark.parametrize("repeats", [False, True], ids=["new", "repeated"])
@pytest.mark.parametrize("gone", [[], ["inbox"], ["stream"], ["inbox", "stream"]], ids=str)
async def test_whatever_is_missing_the_api_listens_and_a_new_pack_has_its_lane(
    valkey: RedisServer, gone: list[str], *, repeats: bool
) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        stream, inbox = site.lane.stream(LaneClass.INTERACTIVE), site.lane.inbox(api.api_id)
        await api.accepted(api.post(["known"]))
        for name in gone:
            await site.call("DEL", stream if name == "stream" else inbox)

        if repeats:
            api.lanes.repeat_all()
        await api.accepted(api.post(["new"]))

        assert await site.call("EXISTS", inbox) == 1
        texts = [job.job.inputs[0] for pack in await hand.take() for job in pack.open.values()]
        assert texts == (["new"] if "stream" in gone else ["known", "new"])


async def test_all_jobs_of_a_tick_leave_in_one_pack(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api = site.api()

        answers = [api.post([f"text {n}"]) for n in range(40)]

        await api.accepted(*answers)
        assert await site.waiting() == 1


@pytest.mark.parametrize(
    ("bounds", "fitting"),
    [
        pytest.param(QueueBounds(max_items=3, max_bytes=1_000), ["a", "b", "c"], id="items"),
        pytest.param(QueueBounds(max_items=100, max_bytes=6), ["abcdef"], id="bytes"),
    ],
)
async def test_a_full_queue_refuses_with_an_estimate_of_the_wait(
    valkey: RedisServer, bounds: QueueBounds, fitting: list[str]
) -> None:
    async with Site(valkey.url) as site:
        api = site.api(bounds=bounds)
        first = api.post(fitting)
        await api.accepted(first)

        with pytest.raises(Overloaded) as refusal:
            await api.ask("one more")

        assert refusal.value.code == "overloaded"
        assert refusal.value.retry_after_s == max(1.0, len(fitting))
        assert await site.waiting() == 1
        assert (await site.depth())[0] == len(fitting)


async def test_a_queue_that_was_full_takes_requests_again_once_it_is_served(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api = site.api(bounds=QueueBounds(max_items=2, max_bytes=1_000))
        first = api.post(["a", "b"])
        await api.accepted(first)
        with pytest.raises(Overloaded):
            await api.ask("c")

        site.worker(Embedder())
        await first.done

        assert await api.ask("c") == right(["c"])


async def test_a_lane_is_announced_once_however_many_packs_it_gets(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        apis = [site.api("a1"), site.api("a2")]

        for api in apis:
            for lane_class in LaneClass:
                await api.accepted(api.post(["x"], lane_class=lane_class))

        await until(lambda: site.has_lanes([MODEL]), "the lane is announced")
        await asyncio.gather(*(api.flushed() for api in apis))
        assert await site.has_lanes([MODEL])


async def test_at_the_memory_limit_new_work_is_refused_and_leased_work_is_committed(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, embedder = site.api(), Embedder()
        embedder.gate.clear()
        site.worker(embedder)
        accepted = api.post(["early"])
        await until(lambda: bool(embedder.calls), "the call is under way")
        await site.call("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(QueueUnavailable) as refusal:
                await api.ask("late")
            embedder.gate.set()

            replies = await accepted.done
        finally:
            await site.call("CONFIG", "SET", "maxmemory", "0")

        assert refusal.value.code == "queue_unavailable"
        assert [reply.vectors for reply in replies] == right(["early"])
        assert await api.ask("later") == right(["later"])
        await until(site.is_quiet, "nothing is left of either")


async def test_a_memory_limit_does_not_take_back_what_was_accepted(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, embedder = site.api(), Embedder()
        embedder.gate.clear()
        site.worker(embedder)
        accepted = api.post(["early"])
        await until(lambda: bool(embedder.calls), "the call is under way")
        await site.call("CONFIG", "SET", "maxmemory", "1")
        try:
            api.lanes.repeat_all()
            with pytest.raises(QueueUnavailable):
                await api.ask("late")
            embedder.gate.set()

            replies = await accepted.done
        finally:
            await site.call("CONFIG", "SET", "maxmemory", "0")

        assert [reply.vectors for reply in replies] == right(["early"])
