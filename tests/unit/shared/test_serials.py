"""Ids are made once, by whomever."""

from __future__ import annotations

from itertools import islice

from embedpool_shared.serials import serials


def test_no_two_makers_and_no_two_calls_make_the_same_id() -> None:
    made = [*islice(serials(), 40), *islice(serials(), 40)]

    assert len(set(made)) == 80


def test_an_id_says_its_kind_and_has_at_least_so_many_digits() -> None:
    first, *_, last = islice(serials("req_", digits=2), 257)

    assert first.startswith("req_")
    assert (first[-2:], last[-3:]) == ("00", "100")
    assert len(last) == len(first) + 1
