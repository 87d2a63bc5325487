"""Tokens add up, whatever is shared, deduplicated or not counted by anybody."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.accounting import (
    ItemTokens,
    cached_share,
    item_tokens,
    saved_and_wasted,
    shares,
)

weights = st.lists(st.integers(0, 50), min_size=1, max_size=20)


@given(st.integers(0, 10_000), weights)
def test_shares_sum_exactly_and_each_is_within_one_of_its_due(
    total: int, weights: list[int]
) -> None:
    split = shares(total, weights)

    assert sum(split) == total
    whole = sum(weights)
    due = [total * w / whole if whole else total / len(weights) for w in weights]
    assert all(abs(share - exact) < 1 for share, exact in zip(split, due, strict=True))


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (7, [5, 3, 2], [4, 2, 1]),
        (3, [0, 0], [2, 1]),
        (0, [4, 4], [0, 0]),
        (5, [0, 9], [0, 5]),
    ],
    ids=["ties go first", "largest remainder", "no weights", "nothing", "a weight of zero"],
)
def test_shares_by_example(total: int, weights: list[int], expected: list[int]) -> None:
    assert shares(total, weights) == expected


@st.composite
def calls(
    draw: st.DrawFn,
) -> tuple[int | None, list[int] | None, list[int], list[int]]:
    """Draw total, exact counts, sizes and places; every distinct input is somebody's."""
    sizes = draw(st.lists(st.integers(0, 400), min_size=1, max_size=10))
    more = draw(st.lists(st.integers(0, len(sizes) - 1), max_size=10))
    where = draw(st.permutations([*range(len(sizes)), *more]))
    counts = st.lists(st.integers(0, 90), min_size=len(sizes), max_size=len(sizes))
    return (
        draw(st.one_of(st.none(), st.integers(0, 5_000))),
        draw(st.one_of(st.none(), counts)),
        sizes,
        where,
    )


@given(calls())
def test_over_a_call_used_and_waste_are_paid_and_saved(
    call: tuple[int | None, list[int] | None, list[int], list[int]],
) -> None:
    total_tokens, exact, sizes, where = call

    counted = item_tokens(total_tokens=total_tokens, exact=exact, sizes=sizes, where=where)

    columns = [saved_and_wasted(one.used, one.paid) for one in counted]
    used, paid = sum(one.used for one in counted), sum(one.paid for one in counted)
    saved, waste = sum(s for s, _ in columns), sum(w for _, w in columns)
    assert used + waste == paid + saved
    assert total_tokens is None or paid == total_tokens
    first = [counted[where.index(place)] for place in where]
    assert [one.used for one in counted] == [one.used for one in first]
    if exact is not None:
        assert [one.used for one in counted] == [exact[place] for place in where]


@pytest.mark.parametrize(
    ("total", "exact", "expected"),
    [
        (12, None, [(6, 6), (3, 3), (6, 0), (3, 3)]),
        (None, None, [(2, 2), (1, 1), (2, 0), (1, 1)]),
        (None, [5, 2, 1], [(5, 5), (2, 2), (5, 0), (1, 1)]),
        (4, [5, 2, 1], [(5, 3), (2, 1), (5, 0), (1, 0)]),
    ],
    ids=["shared by size", "four bytes a token", "our count alone", "a count below ours"],
)
def test_a_duplicate_uses_as_much_and_pays_nothing(
    total: int | None, exact: Sequence[int] | None, expected: list[tuple[int, int]]
) -> None:
    counted = item_tokens(total_tokens=total, exact=exact, sizes=[8, 4, 4], where=[0, 1, 0, 2])

    assert counted == [ItemTokens(*pair) for pair in expected]


@given(st.integers(0, 99), st.integers(0, 99))
def test_a_jobs_columns_balance(used: int, paid: int) -> None:
    saved, waste = saved_and_wasted(used, paid)

    assert used + waste == paid + saved
    assert min(saved, waste) == 0


@pytest.mark.parametrize(
    ("used", "counted", "cached", "expected"),
    [(10, 10, 4, 4), (20, 10, 4, 8), (7, 10, 10, 7), (7, 10, 0, 0), (5, 0, 0, 0)],
    ids=["one count", "the api counts more", "all of it", "none of it", "nothing counted"],
)
def test_the_cached_share_follows_the_count_that_is_returned(
    used: int, counted: int, cached: int, expected: int
) -> None:
    assert cached_share(used, counted=counted, cached=cached) == expected
