"""A caller that hangs up takes its unsent work along, and nobody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from embedpool_shared.jobs import encode
from embedpool_shared.names import GROUP
from embedpool_shared.scripts import script
from embedpool_worker.marks import FRESH_FOR_S
from integration.by_hand import Hand
from integration.one_process import Embedder, Site, right, until

if TYPE_CHECKING:
    from support.valkey import RedisServer


async def test_a_pack_nobody_has_seen_is_deleted_with_its_depth_and_recorded_as_zero(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        answers = [api.post([text], tokens=5) for text in ("a", "b")]
        await api.accepted(*answers)

        for answer in answers:
            api.give_up(answer)

        await until(site.is_quiet, "the pack is gone")
        assert [(r.number, r.used, r.paid, r.waste, r.reason) for r in await site.ledger()] == [
            (0, 0, 0, 0, "cancelled"),
            (1, 0, 0, 0, "cancelled"),
        ]


async def test_one_job_of_an_unseen_pack_is_marked_and_the_other_is_answered(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, embedder = site.api(), Embedder()
        unwanted, wanted = (api.post([text]) for text in ("unwanted", "wanted"))
        await api.accepted(wanted)
        stale_at = asyncio.get_running_loop().time() + FRESH_FOR_S
        api.give_up(unwanted)
        await until(site.has_marks, "the mark is set")
        await until(lambda: asyncio.get_running_loop().time() > stale_at, "marks are worth reading")

        (posted,) = unwanted.jobs
        assert posted.pack
        assert await site.call("PTTL", site.lane.part(posted.pack.pack_id)) > 0
        site.worker(embedder)

        assert [reply.vectors for reply in await wanted.done] == right(["wanted"])
        await until(site.is_quiet, "nothing is left")
        assert embedder.inputs == ["wanted"]
        assert sorted((r.number, r.used, r.paid) for r in await site.ledger()) == [
            (0, 0, 0),
            (1, 2, 2),
        ]


async def test_a_job_given_up_while_it_waits_in_a_worker_is_never_sent(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, embedder = site.api(), Embedder()
        embedder.gate.clear()
        site.worker(embedder, max_items=1)
        busy = [api.post([f"busy {n}"]) for n in range(8)]
        await until(lambda: len(embedder.calls) == 8, "every slot is taken")
        unwanted, wanted = (api.post([text]) for text in ("unwanted", "wanted"))
        await until(lambda: site.has_pending(2), "the worker has leased them")

        stale_at = asyncio.get_running_loop().time() + FRESH_FOR_S
        api.give_up(unwanted)
        await until(site.has_marks, "the mark is set")
        await until(lambda: asyncio.get_running_loop().time() > stale_at, "marks are worth reading")
        embedder.gate.set()

        assert [reply.vectors for reply in await wanted.done] == right(["wanted"])
        for answer in busy:
            await answer.done
        await until(site.is_quiet, "nothing is left")
        assert "unwanted" not in embedder.inputs


async def test_work_already_sent_is_billed_although_its_caller_has_gone(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, embedder = site.api(), Embedder()
        embedder.gate.clear()
        site.worker(embedder)
        answer = api.post(["sent"])
        await until(lambda: bool(embedder.calls), "the call is under way")

        api.give_up(answer)
        await until(site.has_marks, "the mark is set")
        embedder.gate.set()

        await until(site.is_quiet, "nothing is left")
        assert [(r.used, r.paid) for r in await site.ledger()] == [(1, 1)]


async def test_a_pack_put_back_in_part_is_not_deleted_with_the_sums_of_its_whole(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        answers = [api.post([text]) for text in ("a", "bb")]
        await api.accepted(*answers)
        (pack,) = await hand.take()
        await hand.commit([pack.open[0]])
        await hand.hand_back.untouched(pack.lane_class, [pack.entry_id])

        # As an api does whose callers both hang up before it has read the first one's reply.
        names = site.lane
        await site.line("late").run(
            script("cancel"),
            [
                names.stream(pack.lane_class),
                names.depth,
                names.pk(pack.pack_id),
                names.part(pack.pack_id),
                names.ledger,
            ],
            [GROUP, "0,1", 1, 2, 3, 0, encode([])],
        )

        assert await site.depth() == (1, 2, 0)
        (again,) = await hand.take()
        await hand.marks.read([again])
        assert [job.is_cancelled for job in again.open.values()] == [True]
        await hand.commit(list(again.open.values()))
        await until(site.is_quiet, "nothing is left")


async def test_a_request_given_up_before_it_leaves_never_reaches_redis(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api = site.api()

        api.give_up(api.post(["never"]))
        await api.flushed()

        assert await site.depth() == (0, 0, 0)
        assert await site.call("XLEN", site.lane.ledger) == 1  # the probe's own
