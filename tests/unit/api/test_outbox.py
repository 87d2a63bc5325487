"""What leaves, in which packs, how often, and what becomes of it when Redis objects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from embedpool_api.outbox import (
    MAX_PACK_BYTES,
    MAX_PACK_ITEMS,
    MAX_PACK_JOBS,
    Outbox,
    QueueBounds,
)
from embedpool_api.posted import Answer, PostedPack
from embedpool_shared.errors import Overloaded, QueueUnavailable
from embedpool_shared.jobs import Bill, LaneClass, MergeKey, Pack, pack_from, records_from
from embedpool_shared.names import Names
from embedpool_shared.redis import RedisRefused
from support.fake_line import AWAY, FakeLine, Told
from support.posting import answer_to, job_of, marked
from support.virtual_time import in_virtual_time

LANE = Names().lane("m")
INTERACTIVE, BULK = LaneClass.INTERACTIVE, LaneClass.BULK
OOM = RedisRefused("Redis refused: OOM command not allowed", retry_after_s=1.0)


class Desk:
    """An outbox whose Redis keeps pack ids as the real script does."""

    def __init__(self) -> None:
        self.line = FakeLine(self._answer)
        self.known: set[str] = set()
        self.says: list[Any] = []  # of the next enqueues, instead of the usual
        self.created = 0
        any_line: Any = self.line
        self.outbox = Outbox(
            any_line,
            LANE,
            api_id="api-1",
            bounds=QueueBounds(1_000, 2_000),
            seal=marked,
            on_created=self._count_created,
        )

    def _count_created(self) -> None:
        self.created += 1

    def _answer(self, told: Told) -> Any:
        if told.what != "enqueue":
            return 1
        if self.says:
            return self.says.pop(0)
        pack_id = told.arguments[1]
        is_new, is_first = pack_id not in self.known, not self.known
        self.known.add(pack_id)
        return [int(is_new), int(is_first and is_new), 1, 0]

    def post(self, answer: Answer, lane_class: LaneClass = INTERACTIVE) -> Answer:
        for posted in answer.jobs:
            self.outbox.post(posted, lane_class)
        return answer

    def abandon(self, answer: Answer) -> None:
        answer.done.cancel()
        for posted in answer.jobs:
            self.outbox.abandon(posted)

    def is_away(self) -> bool:
        return self.outbox.is_away

    @property
    def enqueued(self) -> list[Told]:
        return self.line.told_of("enqueue")

    @property
    def cancels(self) -> list[Told]:
        return self.line.told_of("cancel")

    def packs(self) -> list[Pack]:
        return [pack_from(told.arguments[2]) for told in self.enqueued]

    def texts(self) -> list[list[Any]]:
        """The inputs of each pack, job by job."""
        return [[job.inputs for job in pack.jobs] for pack in self.packs()]


def run(desk: Desk, test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        task = asyncio.create_task(desk.outbox.run())
        try:
            await test()
            assert not task.done(), "the outbox never dies"
        finally:
            task.cancel()

    in_virtual_time(main())


async def soon() -> None:
    await asyncio.sleep(0.000_1)


def is_accepted(answer: Answer) -> bool:
    return answer.is_accepted


def pack_of(answer: Answer) -> PostedPack:
    pack = answer.jobs[0].pack
    assert pack is not None
    return pack


# Packs


def test_all_jobs_of_a_tick_leave_in_one_pack() -> None:
    desk = Desk()

    async def test() -> None:
        for text in "abc":
            desk.post(answer_to([text]))
        await soon()

    run(desk, test)

    assert desk.texts() == [[["a"], ["b"], ["c"]]]
    assert [job.number for job in desk.packs()[0].jobs] == [0, 1, 2]


def test_a_callers_own_key_is_sealed_for_the_very_job_it_travels_with() -> None:
    desk = Desk()

    async def test() -> None:
        desk.post(answer_to(["a"]))
        own = answer_to(["b"])
        own.jobs[0].credential = b"sk-theirs"
        desk.post(own)
        await soon()

    run(desk, test)

    plain, own = desk.packs()[0].jobs
    pack_id = desk.enqueued[0].arguments[1]
    assert plain.sealed == b""
    assert own.sealed == marked(b"sk-theirs", f"job:{pack_id}:1")


def test_jobs_that_gather_during_a_round_trip_leave_together() -> None:
    desk = Desk()
    desk.line.takes_s = 0.010

    async def test() -> None:
        for text in "abc":
            desk.post(answer_to([text]))
            await asyncio.sleep(0.004)
        await asyncio.sleep(0.1)

    run(desk, test)

    assert desk.texts() == [[["a"]], [["b"], ["c"]]]


def test_classes_leave_apart() -> None:
    desk = Desk()

    async def test() -> None:
        desk.post(answer_to(["a"]))
        desk.post(answer_to(["b"]), BULK)
        await soon()

    run(desk, test)

    assert [told.keys[0] for told in desk.enqueued] == [
        LANE.stream(INTERACTIVE), LANE.stream(BULK),
    ]  # fmt: skip
    assert desk.texts() == [[["a"]], [["b"]]]


def test_merge_keys_are_listed_once_each() -> None:
    desk, other = Desk(), MergeKey("m", 64)

    async def test() -> None:
        desk.post(answer_to(["a"]))
        desk.post(answer_to(["b"], ["c"], merge=other))
        desk.post(answer_to(["d"]))
        await soon()

    run(desk, test)

    (pack,) = desk.packs()
    assert pack.api == "api-1"
    own = MergeKey("m")
    assert [pack.merges[job.merge] for job in pack.jobs] == [own, other, other, own]
    assert len(pack.merges) == 2


def test_an_enqueue_says_how_much_it_brings_and_for_how_long() -> None:
    desk = Desk()

    async def test() -> None:
        desk.post(answer_to(job_of("ab", "c", tokens=2), budget_s=5.0))
        desk.post(answer_to(job_of("def", tokens=1), budget_s=9.0))
        await soon()

    run(desk, test)

    (told,) = desk.enqueued
    pack_id, blob = told.arguments[1:3]
    assert told.keys == [
        LANE.stream(INTERACTIVE), LANE.depth, LANE.pk(pack_id), LANE.inbox("api-1"),
    ]  # fmt: skip
    assert told.arguments == [
        "pool", pack_id, blob, 2, 3, 6, 3, 69_000, 120_000, 1_000, 2_000, "",
    ]  # fmt: skip
    assert [job.budget_ms for job in pack_from(blob).jobs] == [5_000, 9_000]


@pytest.mark.parametrize(
    ("jobs", "sizes"),
    [
        ([job_of("x")] * (MAX_PACK_JOBS + 1), [MAX_PACK_JOBS, 1]),
        ([job_of(*["x"] * 64)] * 9, [MAX_PACK_ITEMS // 64, 1]),
        ([job_of("x", size_bytes=MAX_PACK_BYTES // 2)] * 3, [2, 1]),
        ([job_of("x", size_bytes=2 * MAX_PACK_BYTES)] * 2, [1, 1]),
    ],
    ids=["jobs", "items", "bytes", "one job larger than a pack"],
)
def test_a_pack_is_bounded(jobs: list[Any], sizes: list[int]) -> None:
    desk = Desk()

    async def test() -> None:
        for one in jobs:
            desk.post(answer_to(job_of(*one.inputs, size_bytes=one.size_bytes)))
        await soon()

    run(desk, test)

    assert [len(pack.jobs) for pack in desk.packs()] == sizes
    assert len({told.arguments[1] for told in desk.enqueued}) == len(sizes)


def test_redis_confirmation_accepts_the_request() -> None:
    desk = Desk()
    desk.line.takes_s = 0.01

    async def test() -> None:
        answer = desk.post(answer_to(["a"]))
        await soon()
        assert not is_accepted(answer)
        await asyncio.sleep(0.02)
        assert is_accepted(answer)
        assert not answer.done.done()

    run(desk, test)

    assert desk.created == 1


# Refusals


@pytest.mark.parametrize(
    ("waiting", "served", "wait_s"),
    [(900, 90, 10.0), (900, 0, 120.0), (5, 1_000, 1.0), (10**6, 1, 120.0)],
    ids=["the true wait", "nothing served yet", "at least a second", "at most two minutes"],
)
def test_a_full_queue_is_told_with_the_true_wait(waiting: int, served: int, wait_s: float) -> None:
    desk = Desk()
    desk.says = [[-1, 0, waiting, served]]

    async def test() -> None:
        answer = desk.post(answer_to(["a"]))
        with pytest.raises(Overloaded) as refused:
            await answer.done
        assert refused.value.retry_after_s == wait_s
        assert (refused.value.code, str(waiting) in refused.value.message) == ("overloaded", True)
        assert not is_accepted(answer)
        assert not desk.is_away()

    run(desk, test)

    assert not desk.outbox.packs


def test_a_refusing_redis_is_a_503_and_nothing_was_accepted() -> None:
    desk = Desk()
    desk.says = [OOM]

    async def test() -> None:
        answer = desk.post(answer_to(["a"]))
        with pytest.raises(QueueUnavailable) as refused:
            await answer.done
        assert (refused.value.code, refused.value.retry_after_s) == ("queue_unavailable", 1.0)
        assert not is_accepted(answer)
        assert desk.is_away()
        await asyncio.sleep(2.0)
        assert not desk.is_away()

    run(desk, test)

    assert len(desk.enqueued) == 1
    assert not desk.outbox.packs


def test_after_a_refusal_the_next_request_is_posted() -> None:
    desk = Desk()
    desk.says = [OOM]

    async def test() -> None:
        refused = desk.post(answer_to(["a"]))
        await soon()
        assert refused.done.exception()
        answer = desk.post(answer_to(["b"]))
        await asyncio.sleep(2.0)
        assert is_accepted(answer)

    run(desk, test)

    assert desk.texts() == [[["a"]], [["b"]]]


def test_what_redis_accepted_before_is_not_refused_by_it_later() -> None:
    desk = Desk()

    async def test() -> None:
        answer = desk.post(answer_to(["a"]))
        await soon()
        desk.says = [OOM, OOM]
        desk.outbox.repeat_all()
        await asyncio.sleep(5.0)
        assert not answer.done.done()

    run(desk, test)

    assert len({told.arguments[1] for told in desk.enqueued}) == 1
    assert len(desk.enqueued) == 4


def test_what_redis_may_have_taken_is_not_refused_by_it_later() -> None:
    desk = Desk()
    desk.line.loses_replies = 1

    async def test() -> None:
        answer = desk.post(answer_to(["a"]))
        await soon()
        desk.says = [OOM]
        await asyncio.sleep(5.0)
        assert not answer.done.done()
        assert is_accepted(answer)

    run(desk, test)

    assert len(desk.enqueued) == 3


# Redis away


def test_an_enqueue_cut_off_is_repeated_under_the_same_id() -> None:
    desk = Desk()
    desk.line.loses_replies = 1

    async def test() -> None:
        answer = desk.post(answer_to(["a"], budget_s=10.0))
        await soon()
        assert desk.is_away()
        assert not is_accepted(answer)
        await asyncio.sleep(2.0)
        assert is_accepted(answer)
        assert not desk.is_away()

    run(desk, test)

    first, second = desk.enqueued
    assert first.arguments[1] == second.arguments[1]
    budgets = [pack.jobs[0].budget_ms for pack in desk.packs()]
    assert budgets[0] == 10_000
    assert budgets[1] == pytest.approx(10_000 - second.at * 1_000, abs=1)


def test_while_redis_is_away_it_is_tried_with_bounded_pauses() -> None:
    desk = Desk()
    desk.says = [AWAY] * 12

    async def test() -> None:
        desk.post(answer_to(["a"]))
        await asyncio.sleep(15.0)

    run(desk, test)

    moments = [told.at for told in desk.enqueued]
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert len(moments) == 13
    assert all(0.0 < pause <= 1.0 for pause in pauses)


def test_everything_unanswered_is_repeated_with_its_ids_and_numbers() -> None:
    desk = Desk()

    async def test() -> None:
        desk.post(answer_to(["a"], ["b"]))
        await soon()
        desk.post(answer_to(["c"]), BULK)
        await soon()
        desk.outbox.repeat_all()
        desk.outbox.repeat_all()
        await soon()

    run(desk, test)

    ids = [told.arguments[1] for told in desk.enqueued]
    assert ids == ids[:2] * 2
    assert desk.texts() == [[["a"], ["b"]], [["c"]]] * 2
    assert [told.keys[0] for told in desk.enqueued[2:]] == [
        LANE.stream(INTERACTIVE), LANE.stream(BULK),
    ]  # fmt: skip


def test_what_was_answered_meanwhile_is_not_repeated() -> None:
    desk = Desk()

    async def test() -> None:
        answer = desk.post(answer_to(["a"], ["b"], ["c"]))
        await soon()
        pack_of(answer).open.pop(1)
        desk.outbox.repeat_all()
        await soon()
        pack_of(answer).open.clear()
        desk.outbox.repeat_all()
        await soon()

    run(desk, test)

    assert desk.texts() == [[["a"], ["b"], ["c"]], [["a"], ["c"]]]
    assert [job.number for job in desk.packs()[1].jobs] == [0, 2]
    assert [told.arguments[3] for told in desk.enqueued] == [3, 3]
    assert [told.arguments[-1] for told in desk.enqueued] == ["", "0,2"]


def test_what_is_posted_during_an_outage_leaves_when_it_ends_and_once() -> None:
    desk = Desk()
    desk.line.is_away = True

    async def test() -> None:
        desk.post(answer_to(["a"]))
        await asyncio.sleep(0.5)
        desk.post(answer_to(["b"]))
        await asyncio.sleep(3.0)
        desk.line.is_away = False
        await asyncio.sleep(3.0)

    run(desk, test)

    assert sorted(map(str, desk.texts())) == ["[['a']]", "[['b']]"]


# Callers that go


def test_a_job_abandoned_before_it_left_is_never_posted() -> None:
    desk = Desk()

    async def test() -> None:
        gone = desk.post(answer_to(["gone"]))
        desk.post(answer_to(["stays"]))
        desk.abandon(gone)
        await soon()

    run(desk, test)

    assert desk.texts() == [[["stays"]]]
    assert not desk.cancels


def test_a_job_abandoned_while_redis_is_away_is_never_posted() -> None:
    desk = Desk()
    desk.line.is_away = True

    async def test() -> None:
        gone = desk.post(answer_to(["gone"]))
        desk.post(answer_to(["stays"]))
        await asyncio.sleep(0.5)
        desk.abandon(gone)
        desk.line.is_away = False
        await asyncio.sleep(2.0)

    run(desk, test)

    assert [texts for texts in desk.texts() if ["gone"] in texts] == []
    assert [told.arguments[1] for told in desk.cancels] == ["0"]


def test_one_of_a_packs_jobs_is_marked_with_its_number() -> None:
    desk = Desk()

    async def test() -> None:
        answers = [desk.post(answer_to([text])) for text in "abc"]
        await soon()
        desk.abandon(answers[1])
        await soon()
        assert list(pack_of(answers[0]).open) == [0, 2]

    run(desk, test)

    (told,) = desk.cancels
    pack_id = desk.enqueued[0].arguments[1]
    assert told.keys == [
        LANE.stream(INTERACTIVE), LANE.depth, LANE.pk(pack_id), LANE.part(pack_id), LANE.ledger,
    ]  # fmt: skip
    assert told.arguments[:3] == ["pool", "1", 0]
    assert pack_id in desk.outbox.packs


def test_a_pack_without_any_caller_left_may_be_deleted_as_a_whole() -> None:
    desk = Desk()

    async def test() -> None:
        desk.abandon(await posted(desk, answer_to(["ab", "c"], ["d"])))
        await soon()

    run(desk, test)

    (told,) = desk.cancels
    assert told.arguments[:6] == ["pool", "0,1", 1, 3, 4, 0]
    records = records_from(told.arguments[6])
    assert [record.number for record in records] == [0, 1]
    assert {record.reason for record in records} == {"cancelled"}
    assert {(record.used, record.paid, record.waste) for record in records} == {(0, 0, 0)}
    assert not desk.outbox.packs


def test_the_record_of_a_job_nobody_used_names_whoever_has_tokens_reserved_for_it() -> None:
    desk, job = Desk(), job_of("a", "b")
    job.account, job.price_per_token_pico_usd = "key:k", 7
    job.bill = Bill("r", 1, ["team:t"], ["key:k", "team:t"])

    async def test() -> None:
        desk.abandon(await posted(desk, answer_to(job, merge=MergeKey("m-small"))))
        await soon()

    run(desk, test)

    (record,) = records_from(desk.cancels[0].arguments[6])
    assert (record.account, record.bill) == ("key:k", job.bill)
    assert (record.model, record.items, record.price_per_token_pico_usd) == ("m-small", 2, 7)
    assert record.cost_pico_usd == 0


async def posted(desk: Desk, answer: Answer) -> Answer:
    desk.post(answer)
    await soon()
    return answer


def test_a_pack_answered_in_part_is_only_marked() -> None:
    desk = Desk()

    async def test() -> None:
        answer = await posted(desk, answer_to(["a"], ["b"]))
        pack_of(answer).was_answered = True
        pack_of(answer).open.pop(0)
        desk.abandon(answer)
        await soon()

    run(desk, test)

    assert desk.cancels[0].arguments[:3] == ["pool", "1", 0]


def test_a_pack_sent_twice_with_different_jobs_is_only_marked() -> None:
    """Redis may have either, so nobody knows how much waits less once it is deleted."""
    desk = Desk()
    desk.line.loses_replies = 1

    async def test() -> None:
        first, second = answer_to(["a"]), answer_to(["b"])
        desk.post(first)
        desk.post(second)
        await soon()
        desk.says = [AWAY]
        desk.abandon(first)
        await asyncio.sleep(0.08)
        desk.abandon(second)
        await asyncio.sleep(3.0)

    run(desk, test)

    numbers = [told.arguments[1] for told in desk.cancels]
    assert sorted(",".join(numbers).split(",")) == ["0", "1"]
    assert {told.arguments[2] for told in desk.cancels} == {0}
    assert not desk.outbox.packs


def test_a_job_abandoned_while_its_packs_mark_is_on_its_way_is_marked_too() -> None:
    desk = Desk()

    async def test() -> None:
        answers = [desk.post(answer_to([text])) for text in "abc"]
        await soon()
        desk.line.takes_s = 0.1
        desk.abandon(answers[0])
        await asyncio.sleep(0.05)
        desk.abandon(answers[1])
        await asyncio.sleep(1.0)
        assert not pack_of(answers[2]).cancelled

    run(desk, test)

    assert [told.arguments[1] for told in desk.cancels] == ["0", "1"]


def test_a_mark_cut_off_is_repeated() -> None:
    desk = Desk()

    async def test() -> None:
        answer = await posted(desk, answer_to(["a"]))
        desk.line.loses_replies = 1
        desk.abandon(answer)
        await asyncio.sleep(3.0)

    run(desk, test)

    assert [told.arguments[1] for told in desk.cancels] == ["0", "0"]
    assert not desk.outbox.packs


def test_a_refused_mark_is_let_go() -> None:
    desk = Desk()
    desk.line.answer = lambda told: OOM if told.what == "cancel" else [1, 0, 1, 0]

    async def test() -> None:
        desk.abandon(await posted(desk, answer_to(["a"])))
        await asyncio.sleep(3.0)
        assert not desk.is_away()

    run(desk, test)

    assert len(desk.cancels) == 1
    assert not desk.outbox.packs


def test_abandoning_what_was_answered_or_abandoned_before_is_nothing() -> None:
    desk = Desk()

    async def test() -> None:
        answer = await posted(desk, answer_to(["a"]))
        pack_of(answer).open.clear()
        desk.abandon(answer)
        desk.abandon(answer)
        await soon()

    run(desk, test)

    assert not desk.cancels
