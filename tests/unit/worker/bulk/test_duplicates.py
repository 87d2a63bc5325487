"""Names that occur twice are found, whatever their hashes say, in eight bytes a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.bulk.duplicates import Seen


def repeated(
    names: Sequence[str], hash_of: Callable[[str], int] = hash
) -> list[tuple[int, str, int]]:
    seen = Seen(hash_of)
    for name in names:
        seen.add(name)
    suspects = seen.suspects().tolist()
    return list(seen.repeated(enumerate(names, 1), suspects)) if suspects else []


@pytest.mark.parametrize("hash_of", [hash, len, lambda _: -1], ids=["good", "poor", "none"])
@given(names=st.lists(st.text("abc", max_size=3), max_size=30))
def test_exactly_the_names_that_occurred_before_are_found(
    names: list[str], hash_of: Callable[[str], int]
) -> None:
    wanted = [
        (number, name, names.index(name) + 1)
        for number, name in enumerate(names, 1)
        if name in names[: number - 1]
    ]

    assert repeated(names, hash_of) == wanted


def test_names_of_different_hashes_are_never_read_again() -> None:
    seen = Seen()
    for number in range(10_000):
        seen.add(f"request-{number}")

    assert len(seen.suspects()) == 0


def test_a_name_takes_eight_bytes_however_long_it_is() -> None:
    seen = Seen()

    for number in range(1_000):
        seen.add(f"{number}" + "x" * 500)

    assert len(seen._hashes) * seen._hashes.itemsize == 8_000


def test_hashes_are_sorted_where_they_are() -> None:
    seen = Seen(int)
    for name in ("3", "1", "2", "1"):
        seen.add(name)

    assert seen.suspects().tolist() == [1]
    assert seen._hashes.tolist() == [1, 1, 2, 3]
