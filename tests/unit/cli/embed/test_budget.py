from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.budget import PICO, Budget, dollars, pico_usd


@given(
    st.integers(0, 10**7),
    st.lists(st.tuples(st.integers(1, 3_000), st.floats(0.2, 1 / 3)), max_size=40),
    st.integers(1, 8),
)
def test_with_a_known_price_no_more_is_spent_than_allowed(
    most: int, requests: list[tuple[int, float]], at_a_time: int
) -> None:
    budget = Budget(most, price_per_token_pico_usd=20_000.0)
    under_way: list[tuple[int, int, float]] = []

    def settle() -> None:
        size, reserved, tokens_per_byte = under_way.pop(0)
        tokens = int(size * tokens_per_byte)
        budget.pay(size, tokens=tokens, pico_usd=tokens * 20_000)
        budget.settle(reserved)

    for size, tokens_per_byte in requests:
        while under_way and not budget.has_room_for(size):
            settle()
        if not budget.has_room_for(size):
            break
        under_way.append((size, budget.reserve(size), tokens_per_byte))
        if len(under_way) == at_a_time:
            settle()
    while under_way:
        settle()

    assert budget.spent_pico_usd <= most
    assert budget.reserved_pico_usd == 0


@pytest.mark.parametrize("price", [None, 10.0])
def test_the_first_request_goes_alone_and_tells_the_price(price: float | None) -> None:
    budget = Budget(PICO, price_per_token_pico_usd=price)
    assert budget.has_room_for(100)
    reserved = budget.reserve(100)
    assert not budget.has_room_for(100)

    budget.pay(100, tokens=30, pico_usd=3_000)
    budget.settle(reserved)

    assert budget.has_room_for(100)
    assert budget.price(100) >= 3_000


def test_without_a_bound_there_is_always_room() -> None:
    assert Budget(None, None, spent_pico_usd=10**18).has_room_for(1 << 30)


@pytest.mark.parametrize(
    ("header", "expected"),
    [("0.000012", 12_000_000), ("0.0", 0), ("1", PICO), ("", 0), ("NaN", 0), ("-1", 0), ("x", 0)],
)
def test_money_is_read_as_the_pool_writes_it(header: str, expected: int) -> None:
    assert pico_usd(header) == expected


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0, "$0.00"), (PICO // 1_000, "$0.001000"), (1_234 * PICO, "$1,234.00")],
)
def test_money_is_said_in_dollars(amount: int, said: str) -> None:
    assert dollars(amount) == said
