"""The answer is due before the client hangs up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.deadline import budget_s

READ = b"x-stainless-read-timeout"
LITELLM = b"x-litellm-timeout"


@pytest.mark.parametrize(
    ("headers", "asked_s", "expected_s"),
    [
        ({}, None, 59.75),
        ({READ: b"10"}, None, 9.75),
        ({READ: b"600"}, None, 59.75),
        ({READ: b"10", LITELLM: b"5.5"}, None, 5.25),
        ({READ: b"0.4"}, None, 0.3),
        ({}, 2.0, 1.75),
        ({READ: b"1"}, 2.0, 0.75),
        ({READ: b"soon"}, None, 59.75),
        ({READ: b""}, None, 59.75),
        ({READ: b"nan"}, None, 59.75),
        ({READ: b"inf"}, None, 59.75),
        ({READ: b"-1"}, None, 59.75),
        ({READ: b"0"}, None, 59.75),
        ({READ: b"\xff"}, None, 59.75),
        ({READ: b"1e400"}, None, 59.75),
    ],
)
def test_the_smallest_hint_counts_less_a_head_start(
    headers: dict[bytes, bytes], asked_s: float | None, expected_s: float
) -> None:
    assert budget_s(headers, 60.0, asked_s=asked_s) == pytest.approx(expected_s)


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_whatever_clients_send_the_budget_is_positive_and_within_the_default(
    read: bytes, litellm: bytes
) -> None:
    assert 0 <= budget_s({READ: read, LITELLM: litellm}, 60.0) <= 59.75
