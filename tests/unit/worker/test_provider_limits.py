"""What providers say of their limits is read as they mean it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.provider_limits import LONGEST_HOLD_S, SaidLimit, said_limits

WHATS = ("limit", "remaining", "reset")


def test_both_limits_are_read() -> None:
    said = said_limits(
        {
            "x-ratelimit-limit-requests": "3000",
            "x-ratelimit-remaining-requests": "2999",
            "x-ratelimit-reset-requests": "12ms",
            "x-ratelimit-limit-tokens": "1000000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1.5s",
        }
    )

    assert said is not None
    assert said.requests == SaidLimit(3_000, 2_999, 0.012)
    assert said.tokens == SaidLimit(1_000_000, 0, 1.5)
    assert said.rest_s == 1.5


@pytest.mark.parametrize("unknown", ["-1", "0", "", "many", "1e9", "²"])
def test_a_limit_that_is_not_positive_is_unknown_and_so_is_what_remains(unknown: str) -> None:
    headers = {
        "x-ratelimit-limit-requests": unknown,
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }

    assert said_limits(headers) is None


def test_an_unknown_remainder_uses_nothing_up() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "-1",
        "x-ratelimit-reset-requests": "60s",
    }

    said = said_limits(headers)

    assert said is not None
    assert said.requests.remaining is None
    assert said.rest_s == 0.0


def test_a_reset_far_away_is_not_believed() -> None:
    said = said_limits(
        {"x-ratelimit-limit-requests": "200", "x-ratelimit-reset-requests": "7h12m0s"}
    )

    assert said is not None
    assert said.requests.reset_s == LONGEST_HOLD_S


@given(
    st.dictionaries(
        st.sampled_from(
            [f"x-ratelimit-{what}-{of}" for what in WHATS for of in ("requests", "tokens")]
        ),
        st.text(max_size=12),
    )
)
def test_whatever_a_provider_writes_is_read_without_an_error(headers: dict[str, str]) -> None:
    said = said_limits(headers)

    assert said is None or 0.0 <= said.rest_s <= LONGEST_HOLD_S
