"""Whatever happens to keys, a usable one is found and an unusable one never used."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from embedpool_shared.jobs import LaneClass
from embedpool_worker.headroom import Headroom
from embedpool_worker.keyring import (
    RESERVE_SHARE,
    KeyHealth,
    candidates,
    choose,
    ready_at,
    to_ask,
)
from support.lane_bench import deployment

INTERACTIVE, BULK = LaneClass.INTERACTIVE, LaneClass.BULK
PLACE = deployment("k")


def key(slots: int = 4) -> KeyHealth:
    return KeyHealth(PLACE, PLACE.keys[0], slots)


class KeyRing(RuleBasedStateMachine):
    """Keys with 1 to 8 slots, taken, given back, throttled and retired while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = [key(slots) for slots in (1, 2, 4, 8)]
        self.now = 0.0
        self.calls: list[tuple[KeyHealth, LaneClass]] = []
        self.resting: dict[int, float] = {}
        self.retired: set[int] = set()

    @rule(lane_class=st.sampled_from(LaneClass))
    def call(self, lane_class: LaneClass) -> None:
        held = {id(k): [c for taken, c in self.calls if taken is k] for k in self.keys}
        awake = [
            k for k in self.keys
            if id(k) not in self.retired and self.resting.get(id(k), 0.0) <= self.now
        ]  # fmt: skip
        free = [k for k in awake if len(held[id(k)]) < k.slots]
        if lane_class is BULK:
            free = [
                k for k in free
                if k.slots == 1
                or held[id(k)].count(BULK) < k.slots - max(1, k.slots // RESERVE_SHARE)
            ]  # fmt: skip

        chosen = choose(self.keys, lane_class, now=self.now)

        assert (chosen is None) == (not free)
        if chosen is not None:
            assert chosen in free
            most = max(k.slots - len(held[id(k)]) for k in free)
            assert chosen.slots - len(held[id(chosen)]) == most
            chosen.take(lane_class)
            self.calls.append((chosen, lane_class))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        taken, lane_class = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        taken.give_back(lane_class)

    @rule(which=st.integers(0, 3), for_s=st.floats(0, 30))
    def throttled(self, which: int, for_s: float) -> None:
        one, until_at = self.keys[which], self.now + for_s
        one.cool(until_at)
        self.resting[id(one)] = max(until_at, self.resting.get(id(one), 0.0))

    @rule(which=st.integers(0, 3))
    def rejected(self, which: int) -> None:
        self.keys[which].retire()
        self.retired.add(id(self.keys[which]))

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts_are_true(self) -> None:
        for one in self.keys:
            held = [lane_class for taken, lane_class in self.calls if taken is one]
            assert (one.in_flight, one.in_flight_bulk) == (len(held), held.count(BULK))

    @invariant()
    def the_time_of_readiness_is_true(self) -> None:
        left = [k for k in self.keys if id(k) not in self.retired]
        expected = [max(self.now, self.resting.get(id(k), 0.0)) for k in left]
        assert ready_at(self.keys, INTERACTIVE, now=self.now) == min(expected, default=None)


test_no_history_leads_to_a_wrong_choice = KeyRing.TestCase


def test_a_resting_key_is_passed_over_until_its_time() -> None:
    one = key()
    one.cool(5.0)

    assert choose([one], INTERACTIVE, now=4.999) is None
    assert choose([one], INTERACTIVE, now=5.0) is one


def test_a_retired_key_is_passed_over_for_good() -> None:
    retired, other = key(8), key(1)
    retired.retire()

    assert choose([retired, other], INTERACTIVE, now=1e9) is other


def test_a_longer_rest_already_begun_stays() -> None:
    one = key()
    one.cool(9.0)
    one.cool(2.0)

    assert not one.is_usable(8.0)


@pytest.mark.parametrize(("slots", "for_bulk"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (16, 12)])
def test_bulk_leaves_some_slots_to_interactive_calls(slots: int, for_bulk: int) -> None:
    one = key(slots)
    while one.has_room(BULK):
        one.take(BULK)

    assert one.in_flight == for_bulk
    assert one.has_room(INTERACTIVE) is (slots > 1)


def test_no_keys_are_never_ready() -> None:
    assert choose([], INTERACTIVE, now=0.0) is None
    assert ready_at([], INTERACTIVE, now=0.0) is None


def test_limits_that_are_full_for_bulk_hold_up_no_interactive_call() -> None:
    full = KeyHealth(PLACE, PLACE.keys[0], 4, Headroom(60, None))
    other = KeyHealth(PLACE, PLACE.keys[0], 4, Headroom(60, None))
    assert full.headroom
    full.headroom.refused(9.0, BULK, now=1.0)

    assert to_ask([full], BULK, now=1.0) is None
    assert to_ask([full], INTERACTIVE, now=1.0) is full
    assert ready_at([full], BULK, now=1.0) == 10.0
    assert ready_at([full], INTERACTIVE, now=1.0) == 1.0
    assert candidates([full, other], [other], BULK, now=1.0) == [full, other]
    assert candidates([full, other], [other], INTERACTIVE, now=1.0) == [full]
