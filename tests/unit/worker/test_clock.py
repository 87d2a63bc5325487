"""Redis' times on the loop's clock: never in the future, as exact as the fastest reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.clock import RedisClock

REDIS_US = 1_700_000_000_000_000
"""What Redis' clock shows when the loop's shows zero."""

moments = st.floats(0, 50)


def at_redis(loop_s: float) -> int:
    return REDIS_US + round(loop_s * 1e6)


@given(st.lists(st.tuples(moments, st.floats(0, 2)), max_size=9), moments, moments)
def test_no_instant_is_ever_in_the_future(
    replies: list[tuple[float, float]], written: float, now: float
) -> None:
    clock = RedisClock()
    for sent, way_back_s in sorted(replies):
        clock.learn(at_redis(sent), now=sent + way_back_s)

    assert clock.instant(at_redis(written), now=now) <= now


@given(st.lists(st.tuples(moments, st.floats(0, 2)), min_size=1, max_size=9), moments)
def test_an_instant_is_late_by_the_quickest_way_back_only(
    replies: list[tuple[float, float]], written: float
) -> None:
    clock = RedisClock()
    for sent, way_back_s in sorted(replies):
        clock.learn(at_redis(sent), now=sent + way_back_s)
    quickest_s = min(way_back_s for _, way_back_s in replies)

    instant = clock.instant(at_redis(written), now=1_000.0)

    assert instant == pytest.approx(written + quickest_s, abs=1e-4)


def test_a_clock_that_knows_nothing_learns_from_the_first_instant() -> None:
    clock = RedisClock()

    assert clock.instant(at_redis(3.0), now=10.0) == pytest.approx(10.0)
    assert clock.instant(at_redis(2.0), now=11.0) == pytest.approx(9.0, abs=1e-5)


def test_what_was_learned_long_ago_is_forgotten() -> None:
    clock = RedisClock()
    clock.learn(at_redis(0.0), now=0.0)
    clock.learn(at_redis(30.0), now=31.0)
    assert clock.instant(at_redis(20.0), now=99.0) == pytest.approx(20.0)

    clock.learn(at_redis(61.0), now=62.0)

    assert clock.instant(at_redis(20.0), now=99.0) == pytest.approx(21.0)
