from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.pace import MAX_PAUSE_S, Pace, pause_s


def test_refusals_of_one_round_halve_the_pace_once() -> None:
    pace = Pace(16)
    era = pace.era

    for _ in range(16):
        pace.was_too_much(era)

    assert pace.allowed == 8
    assert pace.has_room(7)
    assert not pace.has_room(8)


def test_answers_bring_it_back_and_no_further() -> None:
    pace = Pace(4)
    pace.was_too_much(pace.era)

    for _ in range(100):
        pace.went_well()

    assert pace.allowed == 4


def test_one_request_is_always_allowed() -> None:
    pace = Pace(2)
    for _ in range(20):
        pace.was_too_much(pace.era)

    assert pace.has_room(0)


@given(st.integers(1, 1_000), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded_and_never_nothing(tries: int, draw: float) -> None:
    assert 0.25 <= pause_s(tries, None, draw=draw) <= MAX_PAUSE_S


@pytest.mark.parametrize("draw", [0.0, 0.99])
def test_the_pools_own_word_is_never_undercut(draw: float) -> None:
    assert 7.0 <= pause_s(1, 7.0, draw=draw) <= 7.7
