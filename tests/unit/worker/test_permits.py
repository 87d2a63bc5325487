"""Who may call next: slots, rests and classes, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import NoKeys
from embedpool_shared.jobs import LaneClass
from embedpool_worker.deployments import Adapter, Deployment, ProviderKey
from embedpool_worker.keyring import KeyHealth
from embedpool_worker.permits import TIMER_GRAIN_S, Permit, Permits
from support.lane_bench import deployment
from support.virtual_time import in_virtual_time

INTERACTIVE, BULK = LaneClass.INTERACTIVE, LaneClass.BULK
LATER = 1_000.0


class Desk:
    """Permits for one deployment, and the tasks that ask for them."""

    def __init__(self, *places: Deployment, slots: int = 1) -> None:
        self.places = places or (deployment("k"),)
        self.permits = Permits(slots_per_key=slots)
        self.granted: list[str] = []

    @property
    def key(self) -> KeyHealth:
        return self.permits.keys_of(self.places)[0]

    async def acquire(
        self, lane_class: LaneClass = INTERACTIVE, *, until_at: float = LATER
    ) -> Permit:
        return await self.permits.acquire(self.places, lane_class, until_at=until_at)

    def ask(self, name: str, lane_class: LaneClass = INTERACTIVE) -> asyncio.Task[Permit]:
        """Ask in a task, and note the name when it is granted."""

        async def asking() -> Permit:
            permit = await self.acquire(lane_class)
            self.granted.append(name)
            return permit

        return asyncio.create_task(asking())


async def soon() -> None:
    """Let every task run that can."""
    await asyncio.sleep(0.000_01)


def run(test: Coroutine[Any, Any, None]) -> None:
    in_virtual_time(test)


def test_a_free_slot_is_granted_without_waiting() -> None:
    async def test() -> None:
        desk = Desk()

        permit = await asyncio.wait_for(desk.acquire(), 0.001)

        assert permit.health is desk.key
        assert desk.key.in_flight == 1

    run(test())


def test_nothing_is_to_be_had_at_once_while_somebody_waits() -> None:
    async def test() -> None:
        desk = Desk(slots=4)
        held = [await desk.acquire(BULK) for _ in range(3)]
        desk.ask("bulk", BULK)
        await soon()

        assert desk.permits.at_once(desk.places, INTERACTIVE) is None
        assert desk.key.in_flight == 3

        desk.permits.give_back(held[0])
        await soon()
        assert desk.granted == ["bulk"]
        assert desk.permits.at_once(desk.places, INTERACTIVE) is not None
        assert desk.permits.at_once(desk.places, INTERACTIVE) is None

    run(test())


def test_no_alarm_is_shorter_than_the_loop_can_count() -> None:
    async def test() -> None:
        desk = Desk()
        desk.key.cool(0.000_2)

        await desk.acquire()

        assert asyncio.get_running_loop().time() == pytest.approx(TIMER_GRAIN_S)

    run(test())


def test_a_slot_given_back_goes_to_whoever_asked_first() -> None:
    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        tasks = [desk.ask(name) for name in "abc"]
        await soon()
        assert desk.granted == []

        desk.permits.give_back(permit)
        await soon()
        assert desk.granted == ["a"]

        for task in tasks:
            desk.permits.give_back(await task)
        assert desk.granted == ["a", "b", "c"]
        assert desk.key.in_flight == 0

    run(test())


def test_a_permit_counts_back_once_however_often_it_is_given_back() -> None:
    async def test() -> None:
        desk = Desk(slots=2)
        first, _ = await desk.acquire(), await desk.acquire()

        desk.permits.give_back(first)
        desk.permits.give_back(first)

        assert desk.key.in_flight == 1

    run(test())


def test_interactive_goes_before_bulk_that_asked_earlier() -> None:
    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        bulk = desk.ask("bulk", BULK)
        await soon()
        interactive = desk.ask("interactive")
        await soon()

        desk.permits.give_back(permit)
        desk.permits.give_back(await interactive)
        await bulk

        assert desk.granted == ["interactive", "bulk"]

    run(test())


def test_every_tenth_permit_goes_to_bulk() -> None:
    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        tasks = [desk.ask("i") for _ in range(40)] + [desk.ask("b", BULK) for _ in range(9)]
        for _ in range(40):
            desk.permits.give_back(permit)
            await soon()
            permit = next(task for task in tasks if task.done()).result()
            tasks = [task for task in tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert [place for place, name in enumerate(desk.granted) if name == "b"] == [8, 18, 28, 38]

    run(test())


def test_bulk_leaves_a_reserve_to_interactive() -> None:
    async def test() -> None:
        desk = Desk(slots=8)
        held = [await desk.acquire(BULK) for _ in range(6)]
        waiting = desk.ask("bulk", BULK)
        await soon()
        assert not waiting.done()

        await asyncio.wait_for(desk.acquire(), 0.001)  # not even behind the bulk that waits
        desk.permits.give_back(held[0])
        await waiting

        assert desk.key.in_flight_bulk == 6

    run(test())


def test_a_waiter_for_another_deployment_is_not_held_up() -> None:
    async def test() -> None:
        busy, free = deployment("k"), deployment("k", id_="other")
        desk = Desk(busy)
        await desk.acquire()
        waiting = desk.ask("busy")
        await soon()

        permit = await asyncio.wait_for(
            desk.permits.acquire([free], INTERACTIVE, until_at=LATER), 0.001
        )

        assert permit.health.deployment is free
        assert not waiting.done()
        waiting.cancel()

    run(test())


def test_the_local_model_computes_one_call_at_a_time() -> None:
    async def test() -> None:
        desk = Desk(deployment(adapter=Adapter.LOCAL), slots=8)

        assert desk.key.slots == 1
        assert desk.key.key is None

    run(test())


# Waiters that go


def test_a_cancelled_waiter_leaves_no_slot_behind() -> None:
    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        gone, stays = desk.ask("gone"), desk.ask("stays")
        await soon()

        gone.cancel()
        await soon()
        desk.permits.give_back(permit)
        await stays

        assert desk.granted == ["stays"]
        assert desk.key.in_flight == 1

    run(test())


def test_a_waiter_cancelled_just_as_it_is_granted_passes_the_slot_on() -> None:
    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        gone, stays = desk.ask("gone"), desk.ask("stays")
        await soon()

        desk.permits.give_back(permit)
        gone.cancel()
        await soon()

        assert desk.granted == ["stays"]
        assert stays.done()
        assert desk.key.in_flight == 1

    run(test())


def test_a_waiter_cancelled_just_as_it_is_refused_leaves_nothing_behind() -> None:
    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        gone = desk.ask("gone")
        await soon()

        desk.key.retire()
        desk.permits.refuse_unserved()
        gone.cancel()
        await soon()
        desk.permits.give_back(permit)

        assert gone.cancelled()
        assert desk.key.in_flight == 0

    run(test())


@given(
    st.lists(st.tuples(st.sampled_from(["ask", "ask bulk", "end"]), st.integers(0, 5)), max_size=40)
)
def test_no_slot_is_ever_lost_or_invented(steps: list[tuple[str, int]]) -> None:
    async def test() -> None:
        desk = Desk(deployment("k", "l"), slots=2)
        tasks = await after(desk, steps)
        keys = desk.permits.keys_of(desk.places)

        assert sum(key.in_flight for key in keys) == sum(task.done() for task in tasks)
        assert all(0 <= key.in_flight_bulk <= key.in_flight <= 2 for key in keys)
        await serve(desk, tasks)
        assert all(key.in_flight == 0 for key in keys)

    run(test())


async def after(desk: Desk, steps: list[tuple[str, int]]) -> list[asyncio.Task[Permit]]:
    """Go through the steps, some of them without letting anybody else run in between."""
    tasks: list[asyncio.Task[Permit]] = []
    for what, which in steps:
        if what.startswith("ask"):
            tasks.append(desk.ask("", BULK if what == "ask bulk" else INTERACTIVE))
        elif which < len(tasks):
            task = tasks.pop(which)
            if task.done():
                desk.permits.give_back(task.result())
            else:
                task.cancel()
        if which % 2:
            await soon()
    await soon()
    return tasks


async def serve(desk: Desk, tasks: list[asyncio.Task[Permit]]) -> None:
    """Give back what is granted until everybody was served."""
    while tasks:
        done = [task for task in tasks if task.done()]
        assert done, "whoever waits is served once slots are free"
        for task in done:
            desk.permits.give_back(task.result())
        tasks = [task for task in tasks if task not in done]
        await soon()


# Keys that rest


def test_a_waiter_is_woken_exactly_when_a_key_has_rested() -> None:
    async def test() -> None:
        desk = Desk()
        desk.key.cool(12.5)

        await desk.acquire()

        assert asyncio.get_running_loop().time() == pytest.approx(12.5)

    run(test())


def test_the_first_of_several_keys_to_be_rested_is_used() -> None:
    async def test() -> None:
        desk = Desk(deployment("a", "b"))
        first, second = desk.permits.keys_of(desk.places)
        first.cool(20.0)
        second.cool(10.0)

        permit = await desk.acquire()

        assert permit.health is second
        assert asyncio.get_running_loop().time() == pytest.approx(10.0)

    run(test())


def test_a_rest_that_began_while_somebody_waited_is_waited_for() -> None:
    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        waiting = desk.ask("x")
        await soon()

        desk.key.cool(5.0)
        desk.permits.give_back(permit)
        await waiting

        assert asyncio.get_running_loop().time() == pytest.approx(5.0)

    run(test())


def test_nobody_waits_for_a_key_that_rests_beyond_the_deadline() -> None:
    async def test() -> None:
        desk = Desk()
        desk.key.cool(31.0)

        with pytest.raises(NoKeys) as refused:
            await desk.acquire(until_at=30.0)

        assert refused.value.retry_after_s == 31.0
        assert "[openai]" in refused.value.message

    run(test())


def test_nobody_goes_on_waiting_once_the_key_rests_beyond_the_deadline() -> None:
    async def test() -> None:
        desk = Desk()
        await desk.acquire()
        waiting = asyncio.create_task(desk.acquire(until_at=30.0))
        patient = desk.ask("patient")
        await asyncio.sleep(1.0)

        desk.key.cool(301.0)
        desk.permits.refuse_unserved()

        with pytest.raises(NoKeys) as refused:
            await waiting
        assert refused.value.retry_after_s == pytest.approx(300.0)
        assert not patient.done()
        patient.cancel()

    run(test())


def test_a_retired_key_is_waited_for_by_nobody() -> None:
    async def test() -> None:
        desk = Desk()
        await desk.acquire()
        waiting = desk.ask("x")
        await soon()

        desk.key.retire()
        desk.permits.refuse_unserved()

        with pytest.raises(NoKeys) as refused:
            await waiting
        assert refused.value.retry_after_s is None
        with pytest.raises(NoKeys):
            await desk.acquire()

    run(test())


def test_a_busy_key_is_waited_for_even_after_the_deadline() -> None:
    """Whoever is too late then is dropped as such, and not told that there were no keys."""

    async def test() -> None:
        desk = Desk()
        permit = await desk.acquire()
        await asyncio.sleep(1.0)
        waiting = asyncio.create_task(desk.acquire(until_at=0.5))
        await soon()

        desk.permits.give_back(permit)

        assert (await waiting).health is desk.key

    run(test())


# Keys that failed


def test_a_key_that_failed_lately_is_passed_over_while_another_is_usable() -> None:
    async def test() -> None:
        desk = Desk(deployment("a", "b"))
        failing, fine = desk.permits.keys_of(desk.places)
        failing.failed(0.0)

        permit = await desk.acquire()
        waiting = desk.ask("waits for b though a is free")
        await soon()

        assert permit.health is fine
        assert not waiting.done()
        desk.permits.give_back(permit)
        assert (await waiting).health is fine

    run(test())


def test_a_doubted_key_is_used_where_there_is_no_other() -> None:
    async def test() -> None:
        desk = Desk()
        desk.key.failed(0.0)

        assert (await asyncio.wait_for(desk.acquire(), 0.001)).health is desk.key

    run(test())


def test_a_doubted_key_gets_its_share_again_after_the_cooldown() -> None:
    async def test() -> None:
        desk = Desk(deployment("a", "b"))
        failing, fine = desk.permits.keys_of(desk.places)
        failing.failed(0.0)
        await desk.acquire()
        waiting = desk.ask("x")

        permit = await waiting

        assert permit.health is failing
        assert fine.in_flight == 1
        assert asyncio.get_running_loop().time() == pytest.approx(5.0, abs=1e-3)

    run(test())


def test_a_batch_does_not_meet_a_key_again_that_failed_it_while_another_is_usable() -> None:
    async def test() -> None:
        desk = Desk(deployment("a", "b"), slots=8)
        first, other = desk.permits.keys_of(desk.places)

        permit = await desk.permits.acquire(
            desk.places, INTERACTIVE, until_at=LATER, avoided=[first]
        )
        other.cool(60.0)
        again = await desk.permits.acquire(
            desk.places, INTERACTIVE, until_at=LATER, avoided=[first]
        )

        assert (permit.health, again.health) == (other, first)

    run(test())


def test_an_open_key_rests_and_is_then_tried_by_one_call() -> None:
    async def test() -> None:
        desk = Desk(slots=8)
        for _ in range(3):
            desk.key.failed(0.0)
        tasks = [desk.ask(name) for name in "abc"]

        permit = await tasks[0]
        await soon()
        assert asyncio.get_running_loop().time() == pytest.approx(5.0, abs=1e-3)
        assert desk.granted == ["a"]

        desk.key.worked(0.1)
        desk.permits.give_back(permit)
        await soon()
        assert desk.granted == ["a", "b", "c"]

    run(test())


def test_the_quicker_of_two_free_keys_is_preferred_until_it_is_full() -> None:
    async def test() -> None:
        desk = Desk(deployment("slow", "quick"), slots=2)
        slow, quick = desk.permits.keys_of(desk.places)
        slow.worked(10.0)
        quick.worked(1.0)

        chosen = [(await desk.acquire()).health for _ in range(3)]

        assert chosen == [quick, quick, slow]

    run(test())


# Callers' own keys


def own_place(place: Deployment) -> Deployment:
    return replace(place, keys=(ProviderKey("scope", "sk-theirs"),), is_callers_own=True)


def test_a_callers_own_key_never_rests_and_is_forgotten_with_its_last_call() -> None:
    async def test() -> None:
        desk = Desk(slots=1)
        theirs = own_place(desk.places[0])

        async def own() -> Permit:
            return await desk.permits.acquire([theirs], INTERACTIVE, until_at=LATER)

        permit = await own()
        waiting = asyncio.create_task(own())
        await soon()
        assert permit.health.key is not None
        assert permit.health.key.secret == "sk-theirs"
        assert permit.health not in desk.permits.keys_of(desk.places)
        assert not waiting.done()

        desk.permits.give_back(permit)
        second = await waiting
        assert second.health is permit.health
        desk.permits.give_back(second)
        assert (await own()).health is not permit.health

    run(test())


def test_the_pools_own_resting_keys_do_not_concern_a_callers_key() -> None:
    async def test() -> None:
        desk = Desk()
        desk.key.retire()

        theirs = own_place(desk.places[0])
        await asyncio.wait_for(desk.permits.acquire([theirs], INTERACTIVE, until_at=LATER), 0.001)

    run(test())


def test_where_no_deployment_can_be_called_the_provider_is_named() -> None:
    async def test() -> None:
        desk = Desk(deployment(is_callable=False))

        with pytest.raises(NoKeys, match="openai"):
            await desk.acquire()

    run(test())
