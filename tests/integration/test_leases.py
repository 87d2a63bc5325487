"""Who holds what: renewed it stays, left alone it goes to another, and the first one is fenced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP
from embedpool_worker.leases import MOST_TAKEN_OVER
from integration.by_hand import Hand
from integration.one_process import Embedder, Site, right, until

if TYPE_CHECKING:
    from support.valkey import RedisServer

LEASE_S = 0.2


async def test_a_call_longer_than_the_lease_keeps_its_work(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        slow, other = Embedder(latency_s=4 * LEASE_S), Embedder()
        site.worker(slow, "slow", lease_s=LEASE_S)
        answer = api.post(["a"])
        await until(lambda: bool(slow.calls), "the call is under way")

        site.worker(other, "other", lease_s=LEASE_S)

        assert [reply.vectors for reply in await answer.done] == right(["a"])
        assert other.calls == []
        assert len(await site.ledger()) == 1


async def test_work_of_a_worker_that_stopped_renewing_goes_to_another(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, silent, embedder = site.api(), Hand(site, "silent"), Embedder()
        answer = api.post(["a"])
        await api.accepted(answer)
        await silent.take()

        site.worker(embedder, lease_s=LEASE_S)

        assert [reply.vectors for reply in await answer.done] == right(["a"])
        assert await site.pending("silent") == 0
        await until(site.is_quiet, "nothing is left")


async def test_a_worker_learns_that_it_lost_its_lease(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, zombie = site.api(), Hand(site, "zombie", lease_s=LEASE_S)
        answer = api.post(["a"])
        await api.accepted(answer)
        (pack,) = await zombie.take()
        zombie.leases.hold(pack)
        stream = site.lane.stream(LaneClass.INTERACTIVE)
        await site.call("XCLAIM", stream, GROUP, "heir", 0, pack.entry_id)

        zombie.keep_beating()

        await until(lambda: pack.is_lost, "the zombie is told")
        assert not zombie.leases.holds(pack.lane_class, pack.entry_id)
        assert await site.pending("heir") == 1


async def test_more_entries_than_one_beat_takes_over_are_all_taken_over(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, silent, embedder = site.api(), Hand(site, "silent"), Embedder()
        answers = []
        for number in range(MOST_TAKEN_OVER + 10):
            answers.append(api.post([f"text {number}"]))
            await api.accepted(answers[-1])  # each has a pack of its own
        assert len(await silent.take()) == MOST_TAKEN_OVER + 10

        site.worker(embedder, lease_s=LEASE_S)

        for number, answer in enumerate(answers):
            assert [r.vectors for r in await answer.done] == right([f"text {number}"])
        assert sorted(embedder.inputs) == sorted(f"text {n}" for n in range(len(answers)))
        await until(site.is_quiet, "nothing is left")


async def test_a_leased_entry_that_was_deleted_is_forgotten(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, silent = site.api(), Hand(site, "silent")
        answers = []
        for text in ("gone", "here"):
            answers.append(api.post([text]))
            await api.accepted(answers[-1])  # each has a pack of its own
        gone, _ = await silent.take()
        await site.call("XDEL", site.lane.stream(gone.lane_class), gone.entry_id)

        site.worker(Embedder(), lease_s=LEASE_S)

        assert [reply.vectors for reply in await answers[1].done] == right(["here"])
        await until(lambda: site.has_pending(0), "nothing is leased")


async def test_entries_read_onto_a_dead_connection_are_found_again_and_count_as_one_delivery(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, lost, embedder = site.api(), Hand(site, "w1"), Embedder()
        answer = api.post(["a"])
        await api.accepted(answer)
        await lost.take()  # what a reader of that name would have been sent
        embedder.gate.clear()

        site.worker(embedder, "w1", lease_s=5.0)
        await until(lambda: bool(embedder.calls), "it is found at once, not after the lease")
        for _ in range(5):
            await site.cut("w1-read")

        stream = site.lane.stream(LaneClass.INTERACTIVE)
        ((_, _, _, deliveries),) = await site.call("XPENDING", stream, GROUP, "-", "+", 10)
        assert deliveries == 1
        embedder.gate.set()
        assert [reply.vectors for reply in await answer.done] == right(["a"])
        assert embedder.inputs == ["a"]
