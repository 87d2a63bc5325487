"""Endings become commits: what each one says, and that none is lost or said twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import JobReply, LedgerRecord, records_from, reply_from
from embedpool_shared.names import Names
from embedpool_worker.clock import RedisClock
from embedpool_worker.commit import MAX_COMMIT_BYTES, Committer
from embedpool_worker.endings import Ending, wasted
from embedpool_worker.held import HeldJob, HeldPack
from support.fake_line import FakeLine, Told
from support.held import pack_of
from support.virtual_time import in_virtual_time

LANE = Names().lane("m")
REDIS_US = 5_000_000


@dataclass
class Desk:
    """A committer whose Redis finds every pack pending, unless told otherwise."""

    states: list[list[int]] = field(default_factory=list)  # of the next parts, instead of done
    done: list[HeldPack] = field(default_factory=list)
    recorded: list[float] = field(default_factory=list)  # when the ledger was said to have more
    clock: RedisClock = field(default_factory=RedisClock)
    line: FakeLine = field(default_factory=FakeLine)

    def __post_init__(self) -> None:
        any_line: Any = self.line
        self.line.answer = self._answer
        self.committer = Committer(
            any_line, LANE, self.clock, on_done=self.done.append, on_recorded=self._note
        )

    def _note(self) -> None:
        self.recorded.append(asyncio.get_running_loop().time())

    def _answer(self, told: Told) -> Any:
        if told.what != "commit":
            return b"1-0"
        parts = [self.states.pop(0) if self.states else [1] for _ in range(told.arguments[3])]
        return [REDIS_US, *parts]

    def commits(self) -> list[list[dict[str, Any]]]:
        """What each commit said of each pack."""
        return [parts_of(told) for told in self.line.told_of("commit")]


def parts_of(told: Told) -> list[dict[str, Any]]:
    """Read a commit's arguments as its script does."""
    arguments, keys, parts = told.arguments[4:], told.keys[2:], []
    while arguments:
        part: dict[str, Any] = {"kind": arguments[0], "entry": arguments[1]}
        part["stream"], part["part"], part["pk"], part["inbox"], *keys = keys
        if arguments[0] == "w":
            part["sums"] = arguments[2:5]
            part["replies"] = [reply.number for reply in reply_from(arguments[5]).jobs]
            part["records"] = records_from(arguments[6])
            arguments = arguments[7:]
        else:
            part["numbers"], jobs = arguments[2], arguments[3]
            listed = [arguments[4 + 6 * n : 10 + 6 * n] for n in range(jobs)]
            part["jobs"] = [job[0] for job in listed]
            part["sums"] = [job[1:4] for job in listed]
            part["replies"] = [reply_from(job[4]).jobs[0].number for job in listed]
            arguments = arguments[4 + 6 * jobs :]
        parts.append(part)
    assert len(parts) == told.arguments[3]
    assert not keys
    return parts


@asynccontextmanager
async def committing(desk: Desk) -> AsyncIterator[Committer]:
    task = asyncio.create_task(desk.committer.run())
    try:
        yield desk.committer
        await desk.committer.drained()
    finally:
        task.cancel()


def ending(job: HeldJob, *, vectors: bytes = b"v" * 8, paid: int = 3) -> Ending:
    number, pack_id = job.job.number, job.pack.pack_id
    reply = JobReply(number, vectors, 2, 3)
    record = LedgerRecord(pack_id, number, "acme", "m", "openai", 3, paid, 3 - paid, 0)
    return Ending(job, reply, record)


def endings(pack: HeldPack, *numbers: int, **more: Any) -> list[Ending]:
    return [ending(pack.open[n], **more) for n in numbers or pack.numbers]


def commit(desk: Desk, *rounds: Sequence[Ending]) -> None:
    """Hand these in one round after the other, and wait for all."""

    async def run() -> None:
        async with committing(desk) as committer:
            for given in rounds:
                committer.end(given)
                await committer.drained()

    in_virtual_time(run())


def test_a_pack_that_ends_at_once_is_committed_as_a_whole() -> None:
    desk, pack = Desk(), pack_of(["a", "b"], ["c"], pack_id="p1")

    commit(desk, endings(pack))

    ((part,),) = desk.commits()
    assert (part["kind"], part["entry"]) == ("w", pack.entry_id)
    assert part["sums"] == [3, 3, 0]
    assert part["replies"] == [0, 1]
    assert [record.number for record in part["records"]] == [0, 1]
    assert (part["stream"], part["part"], part["pk"], part["inbox"]) == (
        LANE.stream(pack.lane_class), LANE.part("p1"), LANE.pk("p1"), LANE.inbox("api-1"),
    )  # fmt: skip
    assert desk.done == [pack]
    assert not pack.open


def test_endings_of_several_packs_leave_in_one_commit() -> None:
    desk, first, second = Desk(), pack_of(["a"]), pack_of(["b"])

    commit(desk, [*endings(first), *endings(second)])

    ((one, other),) = desk.commits()
    assert [one["entry"], other["entry"]] == [first.entry_id, second.entry_id]
    assert desk.done == [first, second]


def test_endings_that_gather_during_a_commit_leave_together_in_the_next() -> None:
    desk, packs = Desk(), [pack_of([f"t{n}"]) for n in range(4)]
    desk.line.takes_s = 0.1

    async def run() -> None:
        async with committing(desk) as committer:
            for pack in packs:
                committer.end(endings(pack))
                await asyncio.sleep(0.03)

    in_virtual_time(run())

    assert [len(parts) for parts in desk.commits()] == [1, 3]


def test_a_pack_that_ends_in_parts_is_committed_job_by_job() -> None:
    desk, pack = Desk(), pack_of(["a", "b"], ["c"], ["d"])

    commit(desk, endings(pack, 1), endings(pack, 0, 2))

    first, second = (parts[0] for parts in desk.commits())
    assert (first["kind"], first["jobs"], first["numbers"]) == ("s", [1], "0,1,2")
    assert (second["kind"], second["jobs"]) == ("s", [0, 2])
    assert second["sums"] == [[2, 2, 0], [1, 1, 0]]
    assert desk.done == [pack]


def test_a_pack_split_elsewhere_is_committed_job_by_job() -> None:
    desk, pack = Desk(), pack_of(["a"], ["b"])
    pack.was_split = True

    commit(desk, endings(pack))

    assert desk.commits()[0][0]["kind"] == "s"


def test_a_pack_that_turns_out_to_be_split_is_sent_again_job_by_job() -> None:
    desk, pack, other = Desk(states=[[2], [1], [1, 0]]), pack_of(["a"], ["b"]), pack_of(["c"])

    commit(desk, [*endings(pack), *endings(other)])

    first, second = desk.commits()
    assert [part["kind"] for part in first] == ["w", "w"]
    assert [(part["kind"], part["entry"]) for part in second] == [("s", pack.entry_id)]
    assert desk.done == [other, pack]


def test_what_was_paid_for_a_fenced_pack_is_booked_as_waste() -> None:
    desk, pack = Desk(states=[[0]]), pack_of(["a"], ["b"])

    commit(desk, [ending(pack.open[0], paid=3), ending(pack.open[1], paid=0)])

    assert pack.is_lost
    assert desk.done == [pack]
    (told,) = desk.line.told_of("XADD")
    assert told.arguments[0] == LANE.ledger
    (record,) = records_from(told.arguments[3])
    assert (record.number, record.used, record.saved, record.waste) == (0, 0, 0, 3)
    assert record.reason == "fenced"


def test_a_job_left_out_of_a_commit_is_waste_and_the_others_are_not() -> None:
    desk, pack = Desk(states=[[1, 2]]), pack_of(["a"], ["b"], ["c"])

    commit(desk, endings(pack, 0, 2))

    (told,) = desk.line.told_of("XADD")
    assert [record.number for record in records_from(told.arguments[3])] == [2]


def test_a_fenced_pack_with_open_jobs_is_given_up_whole() -> None:
    desk, pack = Desk(states=[[0]]), pack_of(["a"], ["b"])

    commit(desk, endings(pack, 0))

    assert pack.is_lost
    assert desk.done == [pack]
    assert list(pack.open) == [1]


def test_a_pack_with_open_jobs_is_not_done() -> None:
    desk, pack = Desk(), pack_of(["a"], ["b"])

    commit(desk, endings(pack, 0))

    assert desk.done == []
    assert list(pack.open) == [1]


def test_a_commit_redis_may_or_may_not_have_seen_is_repeated_word_for_word() -> None:
    desk, pack = Desk(), pack_of(["a"])
    desk.line.loses_replies = 2

    commit(desk, endings(pack))

    first, second, third = desk.line.told_of("commit")
    assert first.arguments == second.arguments == third.arguments
    assert first.arguments[1] != ""
    assert first.at < second.at < third.at
    assert desk.done == [pack]


def test_two_commits_never_share_an_id() -> None:
    desk = Desk()

    commit(desk, endings(pack_of(["a"])), endings(pack_of(["b"])))

    first, second = desk.line.told_of("commit")
    assert first.arguments[1] != second.arguments[1]


def test_large_answers_are_committed_in_parts() -> None:
    desk, packs = Desk(), [pack_of(["a"]) for _ in range(5)]
    half = MAX_COMMIT_BYTES // 2

    commit(desk, [ending(pack.open[0], vectors=b"v" * half) for pack in packs])

    assert [len(parts) for parts in desk.commits()] == [2, 2, 1]
    assert desk.done == packs


def test_one_answer_larger_than_a_commit_still_leaves() -> None:
    desk, pack = Desk(), pack_of(["a"])

    commit(desk, [ending(pack.open[0], vectors=b"v" * (MAX_COMMIT_BYTES + 1))])

    assert desk.done == [pack]


def test_a_job_has_ended_as_soon_as_it_is_handed_in() -> None:
    async def run() -> None:
        desk, pack = Desk(), pack_of(["a"])

        desk.committer.end(endings(pack))

        assert pack.open[0].has_ended

    in_virtual_time(run())


def test_every_commit_tells_the_time() -> None:
    desk = Desk()

    commit(desk, endings(pack_of(["a"])))

    assert desk.clock.instant(REDIS_US - 2_000_000, now=0.0) == pytest.approx(-2.0)


def test_waste_is_booked_without_any_ending() -> None:
    desk = Desk()
    record = wasted(LedgerRecord("p", 0, "acme", "m", "openai", 4, 6, 0, 2))

    async def run() -> None:
        async with committing(desk) as committer:
            committer.waste(record)

    in_virtual_time(run())

    (told,) = desk.line.told_of("XADD")
    (booked,) = records_from(told.arguments[3])
    assert (booked.used, booked.paid, booked.saved, booked.waste) == (0, 6, 0, 6)


def test_waste_may_be_lost_with_the_connection_but_nothing_else() -> None:
    desk, pack = Desk(states=[[0]]), pack_of(["a"])
    unavailable = QueueUnavailable("away")
    known = desk.line.answer
    desk.line.answer = lambda told: unavailable if told.what == "XADD" else known(told)

    commit(desk, endings(pack), endings(pack_of(["b"])))

    assert len(desk.commits()) == 2


def test_drained_waits_for_what_came_while_waste_was_booked() -> None:
    desk, lost, late = Desk(states=[[0]]), pack_of(["a"]), pack_of(["b"])
    desk.line.takes_s = 0.1

    async def run() -> None:
        async with committing(desk) as committer:
            committer.end(endings(lost))
            await asyncio.sleep(0.15)  # the waste is on its way now
            committer.end(endings(late))
            await committer.drained()
            assert desk.done == [lost, late]

    in_virtual_time(run())


def test_handing_in_nothing_is_nothing() -> None:
    desk = Desk()

    commit(desk, [])

    assert not desk.line.told


def test_every_commit_and_every_booked_waste_says_that_the_ledger_has_more() -> None:
    desk = Desk(states=[[0]])
    desk.line.takes_s = 0.1
    began_at = []

    async def run() -> None:
        began_at.append(asyncio.get_running_loop().time())
        async with committing(desk) as committer:
            committer.end(endings(pack_of(["a"])))

    in_virtual_time(run())

    assert [at - began_at[0] for at in desk.recorded] == pytest.approx([0.1, 0.2])
