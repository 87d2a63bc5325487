"""However much fails, second tries stay a small share of first ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.retry_budget import MOST_EARNED, MOST_SAVED, PER_S, SHARE, RetryBudget


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 50), st.integers(0, 50)), max_size=50))
def test_second_tries_never_exceed_a_share_of_first_ones_and_a_few_a_second(
    steps: list[tuple[float, int, int]],
) -> None:
    budget, now, first, second = RetryBudget(), 0.0, 0, 0
    for pause_s, begun, failed in steps:
        now += pause_s
        for _ in range(begun):
            budget.first_try()
        first += begun
        second += sum(budget.allows_another(now) for _ in range(failed))

        assert second <= SHARE * first + PER_S * now + MOST_SAVED + 1e-6


def test_a_few_second_tries_are_always_possible() -> None:
    budget = RetryBudget()

    assert sum(budget.allows_another(0.0) for _ in range(100)) == MOST_SAVED
    assert sum(budget.allows_another(0.5) for _ in range(100)) == PER_S / 2


def test_what_was_earned_is_kept_but_not_without_bound() -> None:
    budget = RetryBudget()
    for _ in range(100_000):
        budget.first_try()

    allowed = sum(budget.allows_another(0.0) for _ in range(100_000))

    assert MOST_EARNED <= allowed <= MOST_EARNED + MOST_SAVED
