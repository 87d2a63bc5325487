"""What enters and leaves a batch's window: in order, once, within its bounds."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.bulk.window import (
    FLUSH_AFTER_S,
    FLUSH_SHARE,
    MAX_BYTES,
    MIN_INPUTS,
    TOTAL_INPUTS,
    Entered,
    Window,
    share,
)


def entry(number: int, *, inputs: int = 1, size_bytes: int = 10, ended: bool = False) -> Any:
    return Entered(number, 10 * number, inputs, size_bytes, f"line {number}", has_ended=ended)


def window_of(*entries: Any, now: float = 0.0) -> Window[str]:
    window: Window[str] = Window()
    for one in entries:
        window.enter(one, now=now)
    return window


def numbers(entries: list[Entered[str]]) -> list[int]:
    return [one.number for one in entries]


def flush_at(window: Window[str], *, most: int = 100, is_last: bool = False) -> float | None:
    return window.flush_at(max_inputs=most, is_last=is_last, now=50.0)


def test_an_empty_window_has_room_for_any_line() -> None:
    assert Window().has_room(max_inputs=1)


@pytest.mark.parametrize(
    ("entries", "has_room"),
    [
        pytest.param([entry(1, inputs=9)], True, id="fewer inputs than the most"),
        pytest.param([entry(1, inputs=10)], False, id="as many inputs as the most"),
        pytest.param([entry(n, inputs=0) for n in range(10)], False, id="as many lines"),
        pytest.param([entry(1, size_bytes=MAX_BYTES)], False, id="as many bytes as the most"),
    ],
)
def test_a_window_is_bounded_in_inputs_lines_and_bytes(entries: list[Any], has_room: bool) -> None:
    assert window_of(*entries).has_room(max_inputs=10) is has_room


def test_what_was_taken_counts_until_it_is_booked() -> None:
    window = window_of(entry(1, inputs=10, ended=True))

    taken = window.take(max_inputs=10, now=0.0)

    assert not window.has_room(max_inputs=10)
    window.booked(taken)
    assert window.has_room(max_inputs=10)
    assert window.is_empty


def test_a_line_leaves_only_after_all_before_it() -> None:
    first, second, third = entries = [entry(1), entry(2), entry(3)]
    window = window_of(*entries)

    window.end(third, now=1.0)
    window.end(second, now=2.0)
    assert flush_at(window) is None
    window.end(first, now=3.0)

    assert flush_at(window) == 3.0 + FLUSH_AFTER_S
    assert numbers(window.take(max_inputs=100, now=3.0)) == [1, 2, 3]


def test_a_part_leaves_a_while_after_its_first_line_was_ready() -> None:
    first, second = entry(1), entry(2)
    window = window_of(first, second)

    window.end(first, now=1.0)
    window.end(second, now=1.5)

    assert flush_at(window) == 1.0 + FLUSH_AFTER_S


def test_a_part_leaves_at_once_when_it_is_a_share_of_the_window() -> None:
    window = window_of(*(entry(n, ended=True) for n in range(24)), entry(25))
    assert flush_at(window) == FLUSH_AFTER_S

    window = window_of(*(entry(n, ended=True) for n in range(25)), entry(26))
    assert flush_at(window) == 50.0


def test_a_part_leaves_at_once_when_its_bytes_are_many() -> None:
    window = window_of(entry(1, size_bytes=MAX_BYTES // FLUSH_SHARE, ended=True), entry(2))

    assert flush_at(window) == 50.0


def test_the_last_part_leaves_at_once() -> None:
    window = window_of(entry(1, ended=True))

    assert flush_at(window, is_last=False) == FLUSH_AFTER_S
    assert flush_at(window, is_last=True) == 50.0


def test_what_is_ready_at_the_end_waits_for_what_is_under_way() -> None:
    window = window_of(entry(1, ended=True), entry(2))

    assert flush_at(window, is_last=True) == FLUSH_AFTER_S


def test_a_part_is_no_larger_than_its_share_however_much_is_ready() -> None:
    window = window_of(*(entry(n, ended=True) for n in range(60)))

    assert numbers(window.take(max_inputs=100, now=9.0)) == list(range(25))
    assert flush_at(window) == 50.0
    assert numbers(window.take(max_inputs=100, now=9.0)) == list(range(25, 50))
    assert flush_at(window) == 9.0 + FLUSH_AFTER_S
    assert numbers(window.take(max_inputs=100, now=9.0)) == list(range(50, 60))
    assert flush_at(window) is None


def test_lines_rest_until_their_time_and_come_back_in_order() -> None:
    one, two, three = entry(1), entry(2), entry(3)
    window = window_of(one, two, three)
    window.rest(two, until_at=5.0)
    window.rest(three, until_at=9.0)
    window.rest(one, until_at=5.0)

    assert window.rested(now=4.9) == []
    assert numbers(window.rested(now=5.0)) == [1, 2]
    assert numbers(window.rested(now=5.0)) == []
    assert numbers(window.rested(now=inf)) == [3]


def test_lines_that_were_not_taken_are_left_ended_or_not() -> None:
    entries = [entry(1, ended=True), entry(2), entry(3)]
    window = window_of(*entries)
    window.end(entries[2], now=0.0)
    assert numbers(window.left) == [1, 2, 3]

    window.take(max_inputs=100, now=0.0)

    assert numbers(window.left) == [2, 3]


@pytest.mark.parametrize(
    ("running", "dims", "inputs"),
    [
        pytest.param(1, 0, TOTAL_INPUTS, id="one batch has it all"),
        pytest.param(0, 0, TOTAL_INPUTS, id="as before any runs"),
        pytest.param(4, 1_536, TOTAL_INPUTS // 4, id="equal windows"),
        pytest.param(2, 3_072, TOTAL_INPUTS // 4, id="long vectors take more room"),
        pytest.param(1_000, 0, MIN_INPUTS, id="never too small to fill a call"),
    ],
)
def test_the_total_is_shared_out_equally(running: int, dims: int, inputs: int) -> None:
    assert share(running, dims=dims) == inputs


@given(st.lists(st.tuples(st.integers(0, 5), st.randoms(use_true_random=False)), max_size=60))
def test_whatever_ends_when_lines_leave_once_in_order_and_the_window_is_empty_at_last(
    steps: list[tuple[int, Any]],
) -> None:
    window: Window[str] = Window()
    under_way: list[Entered[str]] = []
    left: list[int] = []
    entered = 0
    for now, (count, dice) in enumerate(steps):
        for _ in range(count):
            entered += 1
            under_way.append(entry(entered, inputs=dice.randrange(4)))
            window.enter(under_way[-1], now=now)
        for _ in range(dice.randrange(4)):
            if under_way:
                window.end(under_way.pop(dice.randrange(len(under_way))), now=now)
        if dice.random() < 0.3:
            part = window.take(max_inputs=dice.randrange(1, 20), now=now)
            left += numbers(part)
            window.booked(part)
    for one in under_way:
        window.end(one, now=99)
    while not window.is_empty:
        part = window.take(max_inputs=10, now=99)
        left += numbers(part)
        window.booked(part)

    assert left == list(range(1, entered + 1))
    assert (window.load.lines, window.load.inputs, window.load.size_bytes) == (0, 0, 0)
    assert (window.ready.lines, window.ready.inputs, window.ready_at) == (0, 0, None)
