"""A key that keeps failing is left alone, and tried again by one call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.breaker import Breaker


@pytest.mark.parametrize(("allowed", "needed"), [(0, 1), (1, 1), (3, 3)])
def test_it_opens_after_so_many_failures_in_a_row(allowed: int, needed: int) -> None:
    breaker = Breaker(allowed, rest_s=5.0)

    opened = [breaker.failed(0.0) for _ in range(needed)]

    assert opened == [False] * (needed - 1) + [True]
    assert breaker.is_open(4.999)
    assert not breaker.is_open(5.0)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(2, rest_s=5.0)
    breaker.failed(0.0)
    breaker.succeeded()

    assert not breaker.failed(0.0)


def test_one_failure_makes_the_key_doubted_until_it_works() -> None:
    breaker = Breaker(3, rest_s=5.0)
    breaker.failed(1.0)
    assert breaker.is_doubted(5.999)
    assert not breaker.is_doubted(6.0)

    breaker.succeeded()

    assert not breaker.is_doubted(2.0)


def test_half_open_one_failure_opens_it_again_and_one_success_closes_it() -> None:
    breaker = Breaker(2, rest_s=5.0)
    breaker.failed(0.0)
    breaker.failed(0.0)

    assert breaker.failed(6.0)
    assert breaker.is_open(10.9)
    breaker.succeeded()
    assert (breaker.has_tripped, breaker.is_open(10.9)) == (False, False)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_calls_under_way_when_it_opened_do_not_prolong_the_rest(
    steps: list[tuple[float, bool]],
) -> None:
    breaker, now = Breaker(3, rest_s=5.0), 0.0
    for pause_s, works in steps:
        now += pause_s
        before = breaker.open_until_at
        if works:
            breaker.succeeded()
        elif before > now:
            assert not breaker.failed(now)
            assert breaker.open_until_at == before
        else:
            breaker.failed(now)
        assert breaker.open_until_at <= now + 5.0
