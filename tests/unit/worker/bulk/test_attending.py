"""Who runs and who waits, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from embedpool_worker.bulk.attending import MAX_HURRIED, MAX_RUNNING, UNIT_S, Attendants
from support.virtual_time import in_virtual_time


class Runs:
    """Runs that end when a test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def run(self, batch_id: str) -> None:
        self.begun.append(batch_id)
        gate = self.gates.setdefault(batch_id, asyncio.Event())
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(batch_id)
            raise

    def end(self, batch_id: str) -> None:
        self.gates[batch_id].set()


@asynccontextmanager
async def attendants() -> AsyncIterator[tuple[Attendants, Runs, asyncio.TaskGroup]]:
    runs = Runs()
    async with asyncio.TaskGroup() as tasks:
        yield Attendants(runs.run, tasks.create_task), runs, tasks
        for gate in runs.gates.values():
            gate.set()


def test_attendance_ends_with_the_batch() -> None:
    async def run() -> bool | None:
        async with attendants() as (ours, runs, tasks):
            unit = tasks.create_task(ours.attend("a", created_at=1.0))
            await asyncio.sleep(1)
            runs.end("a")
            return await unit

    assert in_virtual_time(run()) is True


def test_attendance_ends_after_a_unit_and_the_run_goes_on() -> None:
    async def run() -> None:
        async with attendants() as (ours, runs, _):
            began_at = asyncio.get_running_loop().time()

            assert await ours.attend("a", created_at=1.0) is False

            assert asyncio.get_running_loop().time() - began_at == UNIT_S
            assert ours.running == 1
            assert not ours.knows("a")
            assert await ours.attend("a", created_at=1.0) is False
            assert runs.begun == ["a"]

    in_virtual_time(run())


def test_a_batch_is_attended_once_at_a_time() -> None:
    async def run() -> None:
        async with attendants() as (ours, runs, tasks):
            unit = tasks.create_task(ours.attend("a", created_at=1.0))
            await asyncio.sleep(0)

            assert ours.knows("a")
            assert await ours.attend("a", created_at=1.0) is None

            await asyncio.sleep(0)
            runs.end("a")
            await unit
            assert runs.begun == ["a"]

    in_virtual_time(run())


def test_no_more_run_at_once_than_may_and_the_oldest_waiting_is_next() -> None:
    async def run() -> None:
        async with attendants() as (ours, runs, tasks):
            names = [f"b{n}" for n in range(MAX_RUNNING)]
            for name in [*names, "young", "old"]:
                created_at = {"young": 99.0, "old": 98.0}.get(name, 1.0)
                tasks.create_task(ours.attend(name, created_at=created_at))
            await asyncio.sleep(1)
            assert runs.begun == names
            assert ours.running == MAX_RUNNING

            runs.end("b3")
            await asyncio.sleep(1)
            assert runs.begun == [*names, "old"]

            runs.end("b0")
            await asyncio.sleep(1)
            assert runs.begun == [*names, "old", "young"]

    in_virtual_time(run())


def test_once_the_term_is_over_none_that_waits_begins() -> None:
    async def run() -> list[str]:
        runs, complaints = Runs(), list[str]()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))

        async def term() -> None:
            async with asyncio.TaskGroup() as tasks:
                ours = Attendants(runs.run, tasks.create_task)
                for n in range(MAX_RUNNING + 1):
                    tasks.create_task(ours.attend(f"b{n}", created_at=1.0))

        task = asyncio.create_task(term())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert len(runs.begun) == len(runs.cancelled) == MAX_RUNNING
        return complaints

    assert in_virtual_time(run()) == []


def test_a_hurried_batch_runs_out_of_turn_and_takes_nobodys_place() -> None:
    async def run() -> None:
        async with attendants() as (ours, runs, tasks):
            names = [f"b{n}" for n in range(MAX_RUNNING)]
            for name in [*names, "next", "cancelled"]:
                tasks.create_task(ours.attend(name, created_at=1.0))
            await asyncio.sleep(1)
            for name in ("b0", "cancelled", "cancelled", "unknown"):
                ours.hurry(name)
            await asyncio.sleep(1)
            assert runs.begun == [*names, "cancelled", "unknown"]

            runs.end("cancelled")
            await asyncio.sleep(1)
            assert runs.begun == [*names, "cancelled", "unknown"]

            runs.end("b1")
            await asyncio.sleep(1)
            assert runs.begun == [*names, "cancelled", "unknown", "next"]
            assert ours.running == MAX_RUNNING + 1

    in_virtual_time(run())


def test_no_more_are_hurried_at_once_than_may() -> None:
    async def run() -> None:
        async with attendants() as (ours, runs, _):
            for n in range(MAX_HURRIED + 1):
                ours.hurry(f"c{n}")
            await asyncio.sleep(1)
            assert ours.running == MAX_HURRIED

            runs.end("c0")
            await asyncio.sleep(1)
            ours.hurry(f"c{MAX_HURRIED}")
            await asyncio.sleep(1)

            assert ours.running == MAX_HURRIED
            assert runs.begun[-1] == f"c{MAX_HURRIED}"

    in_virtual_time(run())


def test_a_batch_that_ended_may_run_again() -> None:
    async def run() -> list[str]:
        async with attendants() as (ours, runs, tasks):
            for _ in range(2):
                unit = tasks.create_task(ours.attend("a", created_at=1.0))
                await asyncio.sleep(1)
                runs.end("a")
                await unit
            return runs.begun

    assert in_virtual_time(run()) == ["a", "a"]
