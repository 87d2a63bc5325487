"""Work put back into its lane: arrival kept, done jobs left out, a bad job found and buried."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from embedpool_shared.errors import InternalError
from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP
from embedpool_worker.handover import MOST_AT_ONCE, hand_over
from embedpool_worker.served_lane import MAX_DELIVERIES
from embedpool_worker.suspects import MAX_TRIES
from integration.by_hand import Hand
from integration.one_process import MODEL, Embedder, Site, right, until

if TYPE_CHECKING:
    from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
    from support.valkey import RedisServer

STREAM = LaneClass.INTERACTIVE


async def test_a_dead_workers_entry_keeps_its_arrival_and_counts_a_delivery(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, dead = site.api(), Hand(site, "dead")
        answer = api.post(["a"])
        await api.accepted(answer)
        (before,) = await site.entries()
        await dead.take()

        count = await hand_over(site.line("supervisor"), site.names, consumer="dead")

        (after,) = await site.entries()
        assert count == 1
        assert {key for key in before if before[key] != after[key]} == {b"d"}
        assert after[b"d"] == b"1"
        assert await site.pending() == 0
        assert await site.consumers() == []


async def test_entries_handed_back_untouched_count_no_delivery(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        answer = api.post(["a"])
        await api.accepted(answer)
        (before,) = await site.entries()
        (pack,) = await hand.take()

        await hand.hand_back.untouched(STREAM, [pack.entry_id])

        assert await site.entries() == [before]


async def test_committed_jobs_stay_out_of_what_is_put_back(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, dead, heir = site.api(), Hand(site, "dead"), Hand(site, "heir")
        answers = [api.post([text]) for text in ("a", "b", "c")]
        await api.accepted(*answers)
        (pack,) = await dead.take()
        await dead.commit([pack.open[1]])

        await hand_over(site.line("supervisor"), site.names, consumer="dead")

        (again,) = await heir.take()
        assert again.numbers == (0, 2)
        await heir.commit(list(again.open.values()))
        assert [r.number for r in await site.ledger()] == [1, 0, 2]
        assert await site.is_quiet()


async def test_what_is_put_back_can_be_cancelled_and_repeated_like_the_original(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, dead = site.api(), Hand(site, "dead")
        answer = api.post(["a"])
        await api.accepted(answer)
        await dead.take()
        await hand_over(site.line("supervisor"), site.names, consumer="dead")

        api.lanes.repeat_all()
        await api.flushed()
        assert await site.waiting() == 1
        api.give_up(answer)

        await until(site.is_quiet, "the entry put back is deleted")


async def test_a_zombies_commit_for_an_entry_handed_over_is_fenced(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, zombie = site.api(), Hand(site, "zombie")
        answer = api.post(["a"])
        await api.accepted(answer)
        (pack,) = await zombie.take()
        await hand_over(site.line("supervisor"), site.names, consumer="zombie")

        await zombie.commit(list(pack.open.values()))

        assert pack.is_lost
        assert await site.waiting() == 1
        site.worker(Embedder())
        assert [reply.vectors for reply in await answer.done] == right(["a"])
        assert [r.reason for r in await site.ledger()] == ["fenced", ""]


async def test_more_entries_than_one_script_call_moves_are_all_handed_over(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, dead = site.api(), Hand(site, "dead")
        answers = []
        for number in range(MOST_AT_ONCE + 1):
            answers.append(api.post([f"text {number}"]))
            await api.accepted(answers[-1])  # each has a pack of its own
        await dead.take()

        count = await hand_over(site.line("supervisor"), site.names, consumer="dead")

        assert count == MOST_AT_ONCE + 1
        assert (await site.pending(), await site.waiting()) == (0, count)
        assert await site.consumers() == []


async def test_a_lane_without_a_group_is_no_obstacle(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, dead = site.api(), Hand(site, "dead")
        answers = [api.post(["a"]), api.post(["b"], lane_class=LaneClass.BULK)]
        await api.accepted(*answers)
        await dead.take(LaneClass.BULK)
        await site.call("XGROUP", "DESTROY", site.lane.stream(STREAM), GROUP)

        assert await hand_over(site.line("supervisor"), site.names, consumer="dead") == 1


class Deadly(Embedder):
    """A provider one of whose inputs ends the worker that asks for it, before any other answer."""

    is_calm = False

    @override
    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        if "poison" in call.inputs or not self.is_calm:
            self.calls.append(list(call.inputs))
            await asyncio.Event().wait()
        return await super().embed(call)


async def test_a_request_that_ends_every_worker_is_buried_and_its_neighbours_are_answered(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, deadly = site.api(), Deadly()
        answers = {text: api.post([text]) for text in ("a", "poison", "b")}
        await api.accepted(*answers.values())

        neighbours = [answers["a"], answers["b"]]

        deaths = 0
        while not answers["poison"].done.done():
            worker = site.worker(deadly, f"w{deaths}", max_items=1)
            deadly.is_calm = deaths >= MAX_DELIVERIES
            await until(
                lambda: deadly.asks_for("poison") or answers["poison"].done.done(),
                "the worker is hit",
            )
            if answers["poison"].done.done():
                break
            await worker.kill()
            await hand_over(site.line("supervisor"), site.names, consumer=worker.worker_id)
            deadly.calls.clear()
            deaths += 1

        with pytest.raises(InternalError, match="given up"):
            await answers["poison"].done
        assert [(await answer.done)[0].vectors for answer in neighbours] == right(["a", "b"])
        assert deaths == MAX_DELIVERIES + MAX_TRIES
        ((_, letter),) = await site.call("XRANGE", site.lane.dead, "-", "+")
        assert b"poison" not in b" ".join(letter)
        assert dict(zip(letter[::2], letter[1::2], strict=True))[b"model"] == MODEL.encode()
        await until(site.is_quiet, "nothing is left")


async def test_a_graceful_stop_hands_back_what_it_has_not_begun_and_finishes_the_rest(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, embedder = site.api(), Embedder()
        embedder.gate.clear()
        worker = site.worker(embedder, max_items=1)
        begun = [api.post([f"begun {n}"]) for n in range(8)]
        await until(lambda: len(embedder.calls) == 8, "every slot is taken")
        waiting = api.post(["waiting"])
        await until(lambda: site.has_pending(2), "the worker has leased both packs")

        stopping = site.spawn(worker.stop())
        await until(lambda: site.has_pending(1), "what was not begun is back")
        embedder.gate.set()
        await stopping

        assert [(await a.done)[0].vectors for a in begun] == right([f"begun {n}" for n in range(8)])
        assert not waiting.done.done()
        assert await site.consumers() == []
        ((entry),) = await site.entries()
        assert entry[b"d"] == b"0"
        other = Embedder()
        site.worker(other, "w2")
        assert [reply.vectors for reply in await waiting.done] == right(["waiting"])
        assert other.inputs == ["waiting"]


async def test_a_graceful_stop_that_runs_out_of_time_leaves_its_work_to_the_next_worker(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, stuck = site.api(), Embedder()
        stuck.gate.clear()
        worker = site.worker(stuck)
        answer = api.post(["a"])
        await until(lambda: bool(stuck.calls), "the call is under way")

        await worker.stop(grace_s=0.05)
        site.worker(Embedder(), "w2")

        assert [reply.vectors for reply in await answer.done] == right(["a"])
        await until(site.is_quiet, "nothing is left")
