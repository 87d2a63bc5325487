"""The commit script: acknowledgement, replies, bill and depth together, once, or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from integration.by_hand import Hand, answered
from integration.one_process import ApiSide, Site, right, until

if TYPE_CHECKING:
    from embedpool_api.posted import Answer
    from embedpool_shared.jobs import LedgerRecord
    from embedpool_worker.held import HeldPack
    from support.valkey import RedisServer


async def posted_pack(api: ApiSide, hand: Hand, texts: list[str]) -> tuple[list[Answer], HeldPack]:
    """One pack of one job per text, leased by `hand`."""
    answers = [api.post([text], tokens=2) for text in texts]
    await api.accepted(*answers)
    (pack,) = await hand.take()
    return answers, pack


async def inherited(heir: Hand) -> HeldPack:
    """The pack that the heir's beats take over from whoever does not renew it."""
    heir.keep_beating()
    await until(lambda: bool(heir.taken_over), "the lease is taken over")
    (same,) = heir.taken()
    return same


async def vectors_of(answers: list[Answer]) -> list[bytes]:
    """What the callers were told, each within the test's patience."""
    return [(await answer.done)[0].vectors for answer in answers]


def counted_once(records: list[LedgerRecord]) -> bool:
    """Tell whether every job has exactly one record that is not waste."""
    jobs = [(r.pack_id, r.number) for r in records if r.reason != "fenced"]
    return len(jobs) == len(set(jobs))


async def test_a_whole_pack_is_answered_billed_and_gone(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        answers, pack = await posted_pack(api, hand, ["a", "b", "c"])

        await hand.commit(list(pack.open.values()))

        assert await vectors_of(answers) == right(["a", "b", "c"])
        assert [(r.number, r.used, r.paid) for r in await site.ledger()] == [
            (0, 1, 1), (1, 1, 1), (2, 1, 1),
        ]  # fmt: skip
        assert await site.is_quiet()
        assert hand.released == [pack]


async def test_a_pack_committed_in_parts_stays_leased_until_the_last_one(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        answers, pack = await posted_pack(api, hand, ["a", "b", "c"])
        first, second, third = pack.open.values()

        await hand.commit([second])

        assert await vectors_of(answers[1:2]) == right(["b"])
        assert (await site.depth(), await site.pending(), hand.released) == ((2, 2, 4), 1, [])
        assert await site.call("PTTL", site.lane.part(pack.pack_id)) > 0
        await hand.commit([third])
        await hand.commit([first])
        assert await vectors_of(answers) == right(["a", "b", "c"])
        assert [r.number for r in await site.ledger()] == [1, 2, 0]
        assert await site.is_quiet()
        assert await site.call("EXISTS", site.lane.part(pack.pack_id)) == 0


@pytest.mark.parametrize("parts", [[3], [1, 2]], ids=["whole", "in parts"])
async def test_a_commit_whose_reply_was_lost_is_repeated_without_effect(
    valkey: RedisServer, parts: list[int]
) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        answers, pack = await posted_pack(api, hand, ["a", "b", "c"])
        jobs = list(pack.open.values())
        hand.commit_line.is_forgetful = True

        for size in parts:
            await hand.commit(jobs[:size])
            del jobs[:size]

        assert await vectors_of(answers) == right(["a", "b", "c"])
        assert sorted(r.number for r in await site.ledger()) == [0, 1, 2]
        assert hand.commit_line.lost == len(parts)
        assert hand.released == [pack]
        assert not pack.is_lost
        assert await site.is_quiet()


async def test_a_commit_for_an_entry_nobody_holds_changes_nothing_but_the_waste(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        _, pack = await posted_pack(api, hand, ["a", "b"])
        await hand.hand_back.untouched(pack.lane_class, [pack.entry_id])

        await hand.commit(list(pack.open.values()))

        records = await site.ledger()
        assert [(r.reason, r.used, r.paid, r.waste) for r in records] == [("fenced", 0, 1, 1)] * 2
        assert await site.depth() == (2, 2, 4)
        assert await site.waiting() == 1
        assert pack.is_lost


@pytest.mark.parametrize("zombie_first", [True, False], ids=["zombie first", "zombie last"])
async def test_two_workers_that_commit_the_same_pack_give_one_answer_and_one_bill(
    valkey: RedisServer, *, zombie_first: bool
) -> None:
    async with Site(valkey.url) as site:
        api, zombie = site.api(), Hand(site, "zombie")
        heir = Hand(site, "heir", lease_s=0.05)
        answers, pack = await posted_pack(api, zombie, ["a", "b"])
        same = await inherited(heir)
        order = [(zombie, pack), (heir, same)]

        for hand, held in order if zombie_first else reversed(order):
            await hand.commit(list(held.open.values()))

        records = await site.ledger()
        assert await vectors_of(answers) == right(["a", "b"])
        assert counted_once(records)
        assert sum(r.used for r in records) == 2
        assert sum(r.used + r.waste for r in records) == sum(r.paid + r.saved for r in records)
        assert await site.is_quiet()


async def test_a_whole_commit_after_another_workers_partial_one_leaves_out_what_is_done(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, zombie = site.api(), Hand(site, "zombie")
        heir = Hand(site, "heir", lease_s=0.05)
        answers, pack = await posted_pack(api, zombie, ["a", "b", "c"])
        same = await inherited(heir)

        await zombie.commit([pack.open[1]])
        await heir.commit(list(same.open.values()))

        records = await site.ledger()
        assert await vectors_of(answers) == right(["a", "b", "c"])
        assert counted_once(records)
        assert [(r.number, r.waste) for r in records if r.reason == "fenced"] == [(1, 1)]
        assert await site.is_quiet()


async def test_a_partial_commit_after_another_workers_whole_one_changes_nothing(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, zombie = site.api(), Hand(site, "zombie")
        heir = Hand(site, "heir", lease_s=0.05)
        answers, pack = await posted_pack(api, zombie, ["a", "b"])
        same = await inherited(heir)

        await heir.commit(list(same.open.values()))
        await zombie.commit([pack.open[1]])

        records = await site.ledger()
        assert await vectors_of(answers) == right(["a", "b"])
        assert counted_once(records)
        assert [(r.number, r.used) for r in records if r.reason == "fenced"] == [(1, 0)]
        assert await site.is_quiet()
        assert await site.call("EXISTS", site.lane.part(pack.pack_id)) == 0


async def test_an_heir_whose_reply_was_lost_repeats_its_commit_without_effect(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, zombie = site.api(), Hand(site, "zombie")
        heir = Hand(site, "heir", lease_s=0.05)
        answers, pack = await posted_pack(api, zombie, ["a", "b"])
        same = await inherited(heir)
        heir.commit_line.is_forgetful = True

        await heir.commit(list(same.open.values()))
        await zombie.commit(list(pack.open.values()))

        assert await vectors_of(answers) == right(["a", "b"])
        assert [(r.number, r.reason) for r in await site.ledger()] == [
            (0, ""), (1, ""), (0, "fenced"), (1, "fenced"),
        ]  # fmt: skip
        assert (heir.commit_line.lost, same.is_lost, pack.is_lost) == (1, False, True)
        assert await site.is_quiet()


async def test_an_heir_later_than_the_first_reader_is_fenced_however_often_it_repeats(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, first = site.api(), Hand(site, "first")
        heir = Hand(site, "heir", lease_s=0.05)
        answers, pack = await posted_pack(api, first, ["a"])
        same = await inherited(heir)
        heir.commit_line.is_forgetful = True

        await first.commit(list(pack.open.values()))
        await heir.commit(list(same.open.values()))

        assert await vectors_of(answers) == right(["a"])
        assert [r.reason for r in await site.ledger()] == ["", "fenced"]
        assert (pack.is_lost, same.is_lost) == (False, True)
        assert await site.is_quiet()


async def test_a_first_reader_whose_pack_was_put_back_and_ended_by_another_is_fenced(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, first, second = site.api(), Hand(site, "first"), Hand(site, "second")
        answers, pack = await posted_pack(api, first, ["a"])
        await first.hand_back.untouched(pack.lane_class, [pack.entry_id])
        (again,) = await second.take()
        first.commit_line.is_forgetful = second.commit_line.is_forgetful = True

        await second.commit(list(again.open.values()))
        await first.commit(list(pack.open.values()))

        assert await vectors_of(answers) == right(["a"])
        assert [r.reason for r in await site.ledger()] == ["", "fenced"]
        assert (pack.is_lost, again.is_lost) == (True, False)
        assert await site.is_quiet()


async def test_a_commit_for_an_api_that_is_gone_bills_without_a_reply(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        _, pack = await posted_pack(api, hand, ["a"])
        await site.call("DEL", site.lane.inbox("a1"))

        await hand.commit(list(pack.open.values()))

        assert [r.used for r in await site.ledger()] == [1]
        assert await site.call("EXISTS", site.lane.inbox("a1")) == 0
        assert await site.is_quiet()


async def test_a_large_commit_is_sent_in_parts_and_settles_every_job(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        api, hand = site.api(), Hand(site)
        texts = [f"text {n}" for n in range(64)]
        answers, pack = await posted_pack(api, hand, texts)
        jobs = list(pack.open.values())

        for start in range(0, 64, 7):
            hand.committer.end([answered(job) for job in jobs[start : start + 7]])
            await asyncio.sleep(0)
        await hand.committer.drained()

        assert await vectors_of(answers) == right(texts)
        assert sorted(r.number for r in await site.ledger()) == list(range(64))
        assert await site.is_quiet()
