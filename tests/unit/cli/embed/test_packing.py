from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.packing import Packer, size_bytes, smaller
from embedpool_cli.embed.rows import Item

TEXTS = st.lists(st.text("aé😀", min_size=1, max_size=12), max_size=40)


@given(TEXTS, st.integers(1, 7), st.integers(1, 40))
def test_each_item_travels_once_in_order_within_the_bounds(
    texts: list[str], most_items: int, most_bytes: int
) -> None:
    packer = Packer(max_items=most_items, max_bytes=most_bytes)

    packed = [[item.text for item in items] for items in packer.add(map(Item, texts))]
    packed += [[item.text for item in items] for items in packer.rest()]

    assert [text for items in packed for text in items] == texts
    assert all(0 < len(items) <= most_items for items in packed)
    assert all(
        len(items) == 1 or sum(len(text.encode()) for text in items) <= most_bytes
        for items in packed
    )


def test_what_waits_for_company_leaves_when_asked_and_once() -> None:
    packer = Packer(max_items=3, max_bytes=100)
    assert list(packer.add([Item("a")])) == []

    assert [[item.text for item in items] for items in packer.rest()] == [["a"]]
    assert list(packer.rest()) == []


@given(st.integers(2, 50), st.none() | st.integers(0, 60))
def test_a_refused_request_becomes_two_that_hold_the_same_items(
    items: int, suspect: int | None
) -> None:
    before = [Item(str(at)) for at in range(items)]

    one, other = smaller(before, suspect)

    assert sorted([*one, *other], key=id) == sorted(before, key=id)
    assert one
    assert other
    if suspect is not None and suspect < items:
        assert [item.text for item in one] == [str(suspect)]


def test_bytes_are_those_of_utf8() -> None:
    assert [size_bytes(text) for text in ("ab", "é", "😀")] == [2, 2, 4]
