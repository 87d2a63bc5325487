"""Pauses double, are bounded, and are spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.backoff import FIRST_PAUSE_S, MAX_PAUSE_S, pause_s

draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10**9), draws)
def test_a_pause_is_never_nothing_and_never_too_long(failures: int, draw: float) -> None:
    assert FIRST_PAUSE_S / 2 <= pause_s(failures, draw=draw) <= MAX_PAUSE_S


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(0, 0.05), (1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (99, 1.0)],
)
def test_the_longest_pause_doubles_up_to_its_bound(failures: int, longest: float) -> None:
    assert pause_s(failures, draw=1.0) == pytest.approx(longest)
    assert pause_s(failures, draw=0.0) == pytest.approx(longest / 2)


@given(st.integers(0, 20), draws, draws)
def test_two_processes_do_not_come_back_at_the_same_moment(
    failures: int, one: float, other: float
) -> None:
    assert (one < other) <= (pause_s(failures, draw=one) <= pause_s(failures, draw=other))
