"""Work that never was in Redis, in a lane beside work that was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from embedpool_shared.errors import NoKeys
from embedpool_shared.jobs import Input, Job, JobReply, LaneClass, LedgerRecord
from embedpool_shared.names import Names
from embedpool_worker.clock import RedisClock
from embedpool_worker.commit import Committer
from embedpool_worker.endings import failed
from embedpool_worker.held import HeldJob, direct_pack
from support.fake_line import FakeLine
from support.held import MERGE, job_of, pack_of
from support.lane_bench import Bench, FakeProvider, bench, deployment, vector_of
from support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedpool_worker.held import HeldPack

BULK = LaneClass.BULK


class HomeOf:
    """Takes endings home."""

    def __init__(self) -> None:
        self.replies: dict[int, JobReply] = {}
        self.records: list[LedgerRecord] = []

    def take(self, job: HeldJob, reply: JobReply, record: LedgerRecord) -> None:
        self.replies[job.job.number] = reply
        self.records.append(record)

    def pack(self, *jobs: Sequence[Input], budget_s: float = 60.0) -> HeldPack:
        made = [(job_of(one, number=n, budget_s=budget_s), MERGE) for n, one in enumerate(jobs)]
        now = asyncio.get_running_loop().time()
        return direct_pack("batch", made, fed_at=now, home=self.take)


def texts(start: int, stop: int) -> list[Input]:
    return [f"text {n}" for n in range(start, stop)]


def capped(max_items: int) -> Any:
    return deployment(max_items=max_items)


def test_a_direct_pack_is_bulk_and_its_marks_are_always_known() -> None:
    async def run() -> None:
        pack = HomeOf().pack(["a"], ["b", "c"])

        assert pack.lane_class is BULK
        assert pack.numbers == (0, 1)
        assert [job.missing for job in pack.open.values()] == [1, 2]
        assert pack.checked_at == float("inf")

    in_virtual_time(run())


def test_an_ending_of_direct_work_goes_home_and_is_not_committed() -> None:
    async def run() -> tuple[FakeLine, HomeOf, HeldPack]:
        line, home = FakeLine(), HomeOf()
        names = Names("t").lane("m")
        committer = Committer(line, names, RedisClock(), on_done=lambda _: None)  # type: ignore[arg-type]
        pack = home.pack(["a"])
        task = asyncio.create_task(committer.run())

        committer.end([failed(pack.open[0], NoKeys("no"))])
        await asyncio.wait_for(committer.drained(), 1.0)
        task.cancel()
        return line, home, pack

    line, home, pack = in_virtual_time(run())

    assert line.told == []
    assert list(home.replies) == [0]
    assert pack.open == {}


def test_direct_work_shares_calls_with_bulk_requests_from_redis() -> None:
    async def run() -> Bench:
        async with bench() as on:
            on.admit(pack_of(["first"], at=asyncio.get_running_loop().time(), lane_class=BULK))
            await asyncio.sleep(0.001)
            on.admit(HomeOf().pack(["a"], ["b"]))
            on.admit(pack_of(["c"], at=asyncio.get_running_loop().time(), lane_class=BULK))
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["a", "b", "c"]]


def test_direct_work_rides_along_with_interactive_requests() -> None:
    async def run() -> Bench:
        async with bench(slots=1) as on:
            now = asyncio.get_running_loop().time()
            on.admit(pack_of(["first"], at=now))
            await asyncio.sleep(0.001)
            on.admit(HomeOf().pack(["ride"]))
            on.admit(pack_of(["x" * 300], at=asyncio.get_running_loop().time()))
        return on

    assert in_virtual_time(run()).provider.batches[1] == ["x" * 300, "ride"]


def test_direct_work_is_never_asked_for_marks() -> None:
    async def run() -> Bench:
        provider = FakeProvider(takes_s=5.0)
        async with bench(capped(1), provider=provider, slots=1) as on:
            on.admit(HomeOf().pack(["a"], ["b"]))
            await asyncio.sleep(20.0)
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["a"], ["b"]]
    assert on.marks.reads == []


def test_direct_work_keeps_nobody_from_reading() -> None:
    async def run() -> None:
        async with bench(capped(2), slots=1) as on:
            on.admit(HomeOf().pack(*([text] for text in texts(0, 50))))

            await asyncio.wait_for(on.lane.has_room(BULK), 0.001)

            on.lane.clear()

    in_virtual_time(run())


def test_there_is_room_for_direct_work_while_less_than_two_calls_of_it_wait() -> None:
    async def run() -> None:
        async with bench(capped(2), slots=1) as on:
            on.admit(HomeOf().pack(*([text] for text in texts(0, 8))))
            began_at = asyncio.get_running_loop().time()

            await on.lane.has_direct_room()

            # Eight wait; the third call of two leaves after two others have returned.
            waited_s = asyncio.get_running_loop().time() - began_at
            assert waited_s == pytest.approx(0.1, abs=0.005)

    in_virtual_time(run())


def test_requests_from_redis_leave_the_room_of_direct_work_alone() -> None:
    async def run() -> None:
        async with bench(capped(2), slots=1) as on:
            now = asyncio.get_running_loop().time()
            on.admit(pack_of(*([text] for text in texts(0, 50)), at=now, lane_class=BULK))

            await asyncio.wait_for(on.lane.has_direct_room(), 0.001)

            on.lane.clear()

    in_virtual_time(run())


def test_cancelled_work_that_waits_ends_at_once_without_a_permit() -> None:
    async def run() -> Bench:
        async with bench(capped(1), slots=1) as on:
            pack = HomeOf().pack(["a"], ["b"], ["c"])
            on.admit(pack)
            await asyncio.sleep(0.001)
            for job in pack.open.values():
                job.is_cancelled = True

            on.lane.withdraw()
            assert sorted(e.reply.number for e in on.committer.endings) == [1, 2]
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["a"]]
    assert on.committer.endings[-1].reply.vectors == vector_of("a")
    assert [e.record.reason for e in on.committer.endings[:2]] == ["cancelled", "cancelled"]


def test_withdrawing_leaves_what_is_still_wanted() -> None:
    async def run() -> Bench:
        async with bench(capped(1), slots=1) as on:
            pack = HomeOf().pack(["a"], ["b"], ["c"])
            on.admit(pack)
            await asyncio.sleep(0.001)
            pack.open[1].is_cancelled = True

            on.lane.withdraw()
        return on

    assert in_virtual_time(run()).provider.batches == [["a"], ["c"]]


def test_a_stop_drops_direct_work_that_waits() -> None:
    async def run() -> Bench:
        async with bench(capped(1), slots=1) as on:
            on.admit(HomeOf().pack(["a"], ["b"]))
            await asyncio.sleep(0.001)
            on.lane.clear()
            on.admit(HomeOf().pack(["c"]))
        return on

    assert in_virtual_time(run()).provider.batches == [["a"]]


def test_a_job_of_a_direct_pack_keeps_its_own_number() -> None:
    async def run() -> None:
        job = Job(17, 0, ["a"], 1_000, 1)
        pack = direct_pack("batch", [(job, MERGE)], fed_at=5.0, home=HomeOf().take)

        assert pack.open[17].deadline_at == 6.0

    in_virtual_time(run())
