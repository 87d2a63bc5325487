from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.restarts import LONG_LIFE_S, MAX_APART_S, pause_before_restart_s

lives = st.lists(st.floats(0, 100), min_size=1)


def test_a_process_that_lived_long_is_replaced_at_once() -> None:
    assert pause_before_restart_s([0.1, 0.1, LONG_LIFE_S]) == 0.0


@pytest.mark.parametrize(
    ("short_lives", "apart_s"), [(1, 1.0), (2, 2.0), (4, 4.0), (5, 5.0), (50, 5.0)]
)
def test_processes_that_die_young_are_started_ever_farther_apart(
    short_lives: int, apart_s: float
) -> None:
    pause_s = pause_before_restart_s([0.25] * short_lives)

    assert pause_s == pytest.approx(apart_s - 0.25)


def test_a_long_life_forgives_the_short_ones_before_it() -> None:
    assert pause_before_restart_s([0.0, 0.0, 60.0, 0.0]) == 1.0


@given(lives)
def test_no_pause_is_negative_or_longer_than_the_longest(lives_s: list[float]) -> None:
    assert 0.0 <= pause_before_restart_s(lives_s) <= MAX_APART_S


@given(lives)
def test_two_starts_are_never_less_than_a_second_apart(lives_s: list[float]) -> None:
    assert lives_s[-1] + pause_before_restart_s(lives_s) >= 1.0
