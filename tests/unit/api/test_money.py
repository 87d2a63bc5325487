"""No dollar is lost between the edge and the books."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.accounts.money import MAX_USD, in_dollars, pico_usd


@pytest.mark.parametrize(
    ("dollars", "pico"),
    [(0.1, 10**11), (25, 25 * 10**12), (1e-12, 1), (0.07, 7 * 10**10), (MAX_USD, 9 * 10**18)],
)
def test_a_decimal_is_exact(dollars: float, pico: int) -> None:
    assert pico_usd(dollars) == pico


@given(st.integers(0, 10**15))
def test_what_is_shown_is_read_back_as_the_same(pico: int) -> None:
    assert pico_usd(in_dollars(pico)) == pico


def test_the_most_fits_into_a_counter_of_redis() -> None:
    assert pico_usd(MAX_USD) < 2**63
