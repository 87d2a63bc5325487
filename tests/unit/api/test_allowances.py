"""What a caller is told of limits: which one, for how long, and how much is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.allowances import (
    Limit,
    Standing,
    duration,
    limit_arguments,
    rate_limit_headers,
    refusal,
    reserves,
    standings,
)
from embedpool_shared.accounts import PICO_PER_USD, Limits
from embedpool_shared.errors import BudgetExceeded, RateLimited, RequestExceedsLimit

LIMITS = Limits(rpm=100, tpm=5_000, parallel=10, budget_pico_usd=25 * PICO_PER_USD // 10)


def standing(
    verdict: int = 0,
    wait_ms: int = 0,
    *,
    account: str = "key:k",
    limits: Limits = LIMITS,
    requests: int = 1,
    tokens: int = 10,
) -> Standing:
    return Standing(account, limits, verdict, wait_ms, requests, tokens, 60_001, 12)


def test_limits_are_written_with_nothing_for_none() -> None:
    assert limit_arguments(Limits(tpm=5, budget_pico_usd=0)) == ["", 5, "", 0]


def test_a_reply_names_only_who_is_refused_and_the_others_are_counted_one_by_one() -> None:
    read = standings("key:k", LIMITS, [60_001, 30_000, 3, 70, 1, 2, 500], [10, 4_990, 20])

    assert read == [
        Standing("key:k", LIMITS, 0, 0, 4, 80, 60_001, 30_000),
        Standing("key:k", LIMITS, 2, 500, 4, 80, 60_001, 30_000),
        Standing("key:k", LIMITS, 0, 0, 5, 100, 60_001, 30_000),
    ]


def test_who_only_limits_parallel_requests_reserves_nothing() -> None:
    only_parallel = standing(limits=Limits(parallel=3))

    assert not reserves(only_parallel.limits)
    assert not only_parallel.is_reserved
    assert only_parallel.is_in_flight


@pytest.mark.parametrize("limits", [Limits(rpm=1), Limits(tpm=1), Limits(budget_pico_usd=1)])
def test_who_limits_anything_else_reserves(limits: Limits) -> None:
    assert standing(limits=limits).is_reserved
    assert not standing(limits=limits).is_in_flight
    assert not standing(1, limits=limits).is_reserved


def test_no_refusal_where_all_let_in() -> None:
    assert refusal([standing(), standing(account="team:t")], tokens=1) is None


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (Limit.REQUESTS, "Rate limit exceeded for key: 100 requests per minute; try again in 2.5"),
        (Limit.TOKENS, "Rate limit exceeded for key: 5000 tokens per minute; try again in 2.5 s"),
        (Limit.PARALLEL, "Rate limit exceeded for key: 10 parallel requests; try again in 2.5 s"),
    ],
)
def test_a_limit_reached_is_named_with_the_wait(limit: Limit, says: str) -> None:
    error = refusal([standing(limit, 2_500)], tokens=1)

    assert isinstance(error, RateLimited)
    assert error.message.startswith(says)
    assert error.retry_after_s == 2.5
    assert error.code == "rate_limit_exceeded"


@pytest.mark.parametrize("kind", ["key", "team", "user"])
def test_whose_limit_it_is_is_named(kind: str) -> None:
    error = refusal([standing(), standing(1, 9, account=f"{kind}:x")], tokens=1)

    assert error is not None
    assert error.message.startswith(f"Rate limit exceeded for {kind}:")
    assert "x" not in error.message.split(":")[0].removeprefix("Rate limit exceeded for ")


def test_of_several_limits_the_longest_wait_is_the_true_one() -> None:
    error = refusal([standing(1, 500), standing(2, 9_000, account="team:t")], tokens=1)

    assert error is not None
    assert error.retry_after_s == 9.0
    assert "for team" in error.message


def test_nobody_knows_when_a_parallel_request_ends() -> None:
    error = refusal([standing(Limit.PARALLEL)], tokens=1)

    assert error is not None
    assert error.retry_after_s == 1.0


def test_a_budget_used_up_says_when_it_begins_anew_and_asks_for_no_retry() -> None:
    error = refusal([standing(1, 70_000), standing(4, 86_400_000, account="team:t")], tokens=1)

    assert isinstance(error, BudgetExceeded)
    assert error.message == "Budget used up for team: $2.5; it begins anew in 24h0m0s"
    assert error.retry_after_s is None


def test_a_budget_for_good_says_no_more() -> None:
    error = refusal([standing(4)], tokens=1)

    assert error is not None
    assert error.message == "Budget used up for key: $2.5"


def test_what_no_wait_can_help_comes_first() -> None:
    error = refusal(
        [standing(4, 10), standing(1, 10), standing(-2, account="user:u")], tokens=5_001
    )

    assert isinstance(error, RequestExceedsLimit)
    assert error.code == "request_exceeds_limit"
    assert error.retry_after_s is None
    assert "5001 tokens" in error.message
    assert "user" in error.message
    assert "5000 tokens per minute" in error.message


def test_headers_tell_of_whichever_account_has_least_left() -> None:
    narrow = Limits(rpm=50)

    headers = dict(
        rate_limit_headers(
            [standing(requests=7), standing(account="team:t", limits=narrow, requests=48)]
        )
    )

    assert headers == {
        b"x-ratelimit-limit-requests": b"50",
        b"x-ratelimit-remaining-requests": b"2",
        b"x-ratelimit-reset-requests": b"1m0.001s",
        b"x-ratelimit-limit-tokens": b"5000",
        b"x-ratelimit-remaining-tokens": b"4990",
        b"x-ratelimit-reset-tokens": b"12ms",
    }


def test_no_less_than_nothing_is_left() -> None:
    headers = dict(rate_limit_headers([standing(tokens=5_700)]))

    assert headers[b"x-ratelimit-remaining-tokens"] == b"0"


def test_without_rates_there_are_no_headers() -> None:
    assert rate_limit_headers([standing(limits=Limits(parallel=1, budget_pico_usd=1))]) == []


def test_a_refusal_carries_the_same_headers() -> None:
    asked = [standing(1, 10)]

    error = refusal(asked, tokens=1)

    assert getattr(error, "headers", None) == rate_limit_headers(asked)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (12, "12ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (10_000, "10s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (90_061_007, "25h1m1.007s"),
    ],
)
def test_durations_are_written_as_openai_does(ms: int, text: str) -> None:
    assert duration(ms) == text


@given(st.integers(0, 10**9))
def test_a_duration_says_no_less_and_no_more(ms: int) -> None:
    rest, factors = duration(ms), {"h": 3_600_000, "m": 60_000, "s": 1_000}
    if rest.endswith("ms"):
        assert int(rest.removesuffix("ms")) == ms
        return
    total = 0.0
    for unit, factor in factors.items():
        amount, found, tail = rest.partition(unit)
        if found:
            total, rest = total + float(amount) * factor, tail
    assert round(total) == ms
