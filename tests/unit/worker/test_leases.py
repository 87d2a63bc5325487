"""Leases are renewed in time, taken over when nobody does, and cost an idle lane almost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import Names
from embedpool_worker.clock import RedisClock
from embedpool_worker.leases import IDLE_BEAT_S, Delivery, Leases
from support.fake_line import FakeLine, Told
from support.held import pack_of
from support.virtual_time import in_virtual_time

LEASE_S = 5.0
BEAT_S = LEASE_S / 4
INTERACTIVE, BULK = LaneClass.INTERACTIVE, LaneClass.BULK


class Desk:
    """Leases of one lane; `says` is what the script answers of the next beats, per class."""

    def __init__(self) -> None:
        self.line = FakeLine(self._answer)
        self.clock = RedisClock()
        self.taken: list[Delivery] = []
        self.says: list[list[Any]] = []
        self.pending = 0
        any_line: Any = self.line
        self.leases = Leases(
            any_line,
            Names().lane("m"),
            self.clock,
            consumer="w1",
            lease_s=LEASE_S,
            on_taken_over=self.taken.extend,
        )

    def _answer(self, _: Told) -> Any:
        usual: list[Any] = [[b"0-0", [], [], self.pending], [b"0-0", [], [], 0]]
        return [7_000_000, *(self.says.pop(0) if self.says else usual)]

    @property
    def beats(self) -> list[float]:
        return [told.at for told in self.line.told]


def run(desk: Desk, test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        task = asyncio.create_task(desk.leases.run())
        await test()
        task.cancel()

    in_virtual_time(main())


def renewed(told: Told) -> tuple[list[str], list[str]]:
    """The entries a beat renews, per class."""
    arguments, found = told.arguments[4:], []
    for _ in LaneClass:
        held = arguments[1]
        found.append(arguments[2 : 2 + held])
        arguments = arguments[2 + held :]
    assert not arguments
    return found[0], found[1]


def test_what_is_held_is_renewed_four_times_a_lease() -> None:
    desk, pack, bulk = Desk(), pack_of(["a"]), pack_of(["b"], lane_class=BULK)

    async def test() -> None:
        desk.leases.hold(pack)
        desk.leases.hold(bulk)
        await asyncio.sleep(4.9)

    run(desk, test)

    assert desk.beats == pytest.approx([0.0, BEAT_S, 2 * BEAT_S, 3 * BEAT_S])
    assert all(renewed(told) == ([pack.entry_id], [bulk.entry_id]) for told in desk.line.told)
    assert desk.line.told[0].arguments[:4] == ["pool", "w1", 5_000, 64]


def test_what_was_released_is_renewed_no_more() -> None:
    desk, pack = Desk(), pack_of(["a"])

    async def test() -> None:
        desk.leases.hold(pack)
        await asyncio.sleep(BEAT_S / 2)
        assert desk.leases.holds(INTERACTIVE, pack.entry_id)
        assert desk.leases.held(INTERACTIVE) == [pack]
        desk.leases.release(pack)
        desk.leases.release(pack)
        assert not desk.leases.holds(INTERACTIVE, pack.entry_id)
        await asyncio.sleep(BEAT_S)

    run(desk, test)

    assert renewed(desk.line.told[-1]) == ([], [])


def test_an_idle_lane_beats_slowly() -> None:
    desk = Desk()

    async def test() -> None:
        await asyncio.sleep(61.0)

    run(desk, test)

    assert desk.beats == pytest.approx([0.0, 15.0, 30.0, 45.0, 60.0])


def test_a_pack_held_by_an_idle_lane_is_renewed_within_a_beat() -> None:
    desk, pack = Desk(), pack_of(["a"])

    async def test() -> None:
        await asyncio.sleep(3.0)
        desk.leases.hold(pack)
        await asyncio.sleep(3.0)

    run(desk, test)

    assert desk.beats[1:3] == pytest.approx([3.0 + BEAT_S, 3.0 + 2 * BEAT_S])
    assert renewed(desk.line.told[1]) == ([pack.entry_id], [])


def test_a_lane_beats_at_once_when_a_worker_vanished() -> None:
    desk = Desk()

    async def test() -> None:
        await asyncio.sleep(3.0)
        desk.leases.hurry()
        await asyncio.sleep(1.0)

    run(desk, test)

    assert desk.beats == pytest.approx([0.0, 3.0])


def test_while_anybodys_work_is_pending_the_lane_stays_awake() -> None:
    desk = Desk()
    desk.pending = 1

    async def test() -> None:
        await asyncio.sleep(2.0)
        desk.pending = 0
        await asyncio.sleep(3.0)

    run(desk, test)

    assert desk.beats == pytest.approx([0.0, BEAT_S, 2 * BEAT_S])
    assert IDLE_BEAT_S > 2 * BEAT_S


def test_what_nobody_renewed_is_taken_over_and_the_sweep_goes_on_where_it_was() -> None:
    desk = Desk()
    taken = [b"7-1", 2, [b"id", b"p1"]]
    desk.says = [[[b"8-0", [], [taken], 1], [b"0-0", [], [], 0]]]

    async def test() -> None:
        await asyncio.sleep(BEAT_S + 0.1)

    run(desk, test)

    assert desk.taken == [(INTERACTIVE, b"7-1", [b"id", b"p1"], 2)]
    assert [told.arguments[4] for told in desk.line.told] == ["0-0", "8-0"]


def test_a_lost_lease_is_noticed() -> None:
    desk, lost, kept = Desk(), pack_of(["a"]), pack_of(["b"])
    desk.says = [[[b"0-0", [lost.entry_id.encode(), b"99-9"], [], 1], [b"0-0", [], [], 0]]]

    async def test() -> None:
        desk.leases.hold(lost)
        desk.leases.hold(kept)
        await asyncio.sleep(0.1)

    run(desk, test)

    assert lost.is_lost
    assert not kept.is_lost
    assert desk.leases.held(INTERACTIVE) == [kept]


def test_a_lost_pack_without_open_jobs_is_not_held_for_ever() -> None:
    desk, pack = Desk(), pack_of(["a"])
    pack.open.clear()
    desk.says = [[[b"0-0", [pack.entry_id.encode()], [], 0], [b"0-0", [], [], 0]]]

    async def test() -> None:
        desk.leases.hold(pack)
        await asyncio.sleep(14.0)

    run(desk, test)

    assert desk.leases.held(INTERACTIVE) == []
    assert len(desk.beats) == 1


def test_while_redis_is_away_it_is_tried_again_and_then_all_is_renewed() -> None:
    desk, pack = Desk(), pack_of(["a"])
    desk.line.is_away = True

    async def test() -> None:
        desk.leases.hold(pack)
        await asyncio.sleep(10.0)
        assert not desk.beats
        desk.line.is_away = False
        await asyncio.sleep(1.1)

    run(desk, test)

    assert renewed(desk.line.told[0]) == ([pack.entry_id], [])


def test_every_beat_tells_the_time() -> None:
    desk = Desk()

    async def test() -> None:
        await asyncio.sleep(0.1)

    run(desk, test)

    assert desk.clock.instant(6_000_000, now=0.0) == pytest.approx(-1.0)


def test_whoever_needs_the_clock_waits_for_the_first_beat() -> None:
    desk = Desk()
    desk.line.is_away = True

    async def test() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(desk.leases.has_beaten(), 5.0)
        desk.line.is_away = False
        await asyncio.wait_for(desk.leases.has_beaten(), 1.1)
        await desk.leases.has_beaten()

    run(desk, test)

    assert len(desk.beats) == 1
