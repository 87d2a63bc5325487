"""Spans of time mean what LiteLLM's users mean by them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.accounts.durations import budget_duration, budget_every, expires_at, next_reset
from embedpool_shared.accounts import MONTHLY
from embedpool_shared.errors import BadRequest

NOW_S = datetime(2025, 1, 31, 12, 30, tzinfo=UTC).timestamp()
instants = st.floats(0, 4_000_000_000)


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("45s", "45"),
        ("30m", "1800"),
        ("24h", "86400"),
        ("30d", "2592000"),
        ("4w", "2419200"),
        ("1mo", MONTHLY),
        ("monthly", MONTHLY),
        ("Weekly", "604800"),
        ("daily", "86400"),
        ("hourly", "3600"),
        (" 2H ", "7200"),
    ],
)
def test_a_budget_returns_as_often_as_was_said(text: str, every: str) -> None:
    assert budget_every(text) == every


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "-1", "1.5d", "0d", "1y", "2mo", "0mo", "1d 2h", "٣d", "99999w", "9" * 99],
)
def test_what_is_no_span_of_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadRequest, match="budget_duration") as refused:
        budget_every(text)

    assert refused.value.param == "budget_duration"
    assert len(refused.value.message) < 200


@given(st.integers(1, 3_000_000_000))
def test_what_is_shown_of_a_budget_is_read_back_as_the_same(seconds: int) -> None:
    shown = budget_duration(str(seconds))

    assert shown is not None
    assert budget_every(shown) == str(seconds)


def test_a_month_is_shown_as_one_and_never_as_nothing() -> None:
    assert budget_duration(MONTHLY) == "1mo"
    assert budget_duration(None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1d", datetime(2025, 2, 1, 12, 30, tzinfo=UTC)),
        ("1mo", datetime(2025, 2, 28, 12, 30, tzinfo=UTC)),
        ("11mo", datetime(2025, 12, 31, 12, 30, tzinfo=UTC)),
        ("12mo", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_key_ends_after_its_span(text: str, expected: datetime) -> None:
    assert expires_at(text, now_s=NOW_S) == expected.timestamp()


def test_a_key_can_be_good_for_ever() -> None:
    assert expires_at("-1", now_s=NOW_S) is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2025, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)),
        (datetime(2025, 2, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC)),
        (datetime(2024, 12, 15, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_monthly_budget_returns_on_the_first(now: datetime, expected: datetime) -> None:
    assert next_reset(MONTHLY, 0, now_s=now.timestamp()) == expected.timestamp()


@given(st.integers(1, 10_000_000), st.integers(0, 4_000_000_000), instants)
def test_a_period_is_the_one_that_runs_and_keeps_its_rhythm(
    step: int, reset_at: int, now_s: float
) -> None:
    found = next_reset(str(step), reset_at, now_s=now_s)

    assert now_s < found
    assert (found - reset_at) % step == 0
    assert found == reset_at or found - now_s <= step
