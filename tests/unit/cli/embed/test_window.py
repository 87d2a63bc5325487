from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.rows import Done, Fault, Item, Vector
from embedpool_cli.embed.window import Window
from unit.cli.embed.embed_blocks import a_block, blocks_of

GROUPS = st.lists(st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), max_size=6), max_size=8)


def wide_window() -> Window:
    return Window(max_rows=1_000, max_bytes=1 << 30)


def rows_of(done: list[Done]) -> list[tuple[int, str, Vector | None]]:
    return [
        (one.block.first_row + at, one.block.texts[at], item.vector)
        for one in done
        for at, item in enumerate(one.items, one.start)
    ]


@given(GROUPS, st.randoms(use_true_random=False))
def test_rows_leave_once_in_order_with_their_own_vector(
    groups: list[list[str]], draw: object
) -> None:
    window = wide_window()
    waiting: list[Item] = []
    left: list[tuple[int, str, Vector | None]] = []

    for block in blocks_of(groups):
        waiting += window.add(block)
        while waiting and draw.random() < 0.5:  # type: ignore[attr-defined]
            item = waiting.pop(draw.randrange(len(waiting)))  # type: ignore[attr-defined]
            item.vector = item.text.encode()
            left += rows_of(window.take_finished())
    for item in waiting:
        item.vector = item.text.encode()
    left += rows_of(window.take_finished())

    texts = [text for group in groups for text in group]
    assert left == [(at, text, text.encode() or None) for at, text in enumerate(texts)]
    assert window.rows == 0


@given(GROUPS)
def test_a_text_in_the_window_is_asked_for_once(groups: list[list[str]]) -> None:
    window = wide_window()

    asked = [item.text for block in blocks_of(groups) for item in window.add(block)]

    assert sorted(asked) == sorted({text for group in groups for text in group if text})


def test_a_text_that_has_left_is_asked_for_again() -> None:
    window = wide_window()
    first = window.add(a_block(["a"]))
    first[0].vector = b"v"
    window.take_finished()

    again = window.add(a_block(["a"], first_row=1))

    assert [item.text for item in again] == ["a"]


def test_a_text_two_blocks_share_stays_known_until_both_have_left() -> None:
    window = wide_window()
    (shared,) = window.add(a_block(["a"]))
    assert window.add(a_block(["a", "b"], first_row=1))[0].text == "b"
    shared.vector = b"v"
    window.take_finished()

    assert window.add(a_block(["a"], first_row=3)) == []


@given(GROUPS, st.randoms(use_true_random=False))
def test_the_rest_is_everything_before_the_first_unfinished_row(
    groups: list[list[str]], draw: object
) -> None:
    window = wide_window()
    items = [item for block in blocks_of(groups) for item in window.add(block)]
    ended = {item.text for item in items if draw.random() < 0.7}  # type: ignore[attr-defined]
    for item in items:
        if item.text in ended:
            item.vector = b"v"

    left = rows_of(window.take_rest())

    texts = [text for group in groups for text in group]
    whole = next((at for at, text in enumerate(texts) if text and text not in ended), len(texts))
    assert [row for row, _, _ in left] == list(range(whole))
    assert rows_of(window.take_rest()) == []


def test_a_failed_text_fails_every_row_that_has_it() -> None:
    window = wide_window()
    (item,) = window.add(a_block(["a", "a"]))

    item.fault = Fault("no")

    (done,) = window.take_finished()
    assert [one.fault for one in done.items] == [Fault("no"), Fault("no")]


def test_an_empty_window_takes_any_block_and_a_full_one_none() -> None:
    window = Window(max_rows=3, max_bytes=1 << 30)
    large = a_block(["a", "b", "c", "d"])

    assert window.has_room_for(large)
    window.add(large)
    assert not window.has_room_for(a_block(["e"], first_row=4))


def test_longer_vectors_leave_room_for_fewer_rows() -> None:
    window = Window(max_rows=1_000, max_bytes=100_000)
    window.add(a_block(["a"]))
    next_block = a_block(["b"] * 5, first_row=1)
    assert window.has_room_for(next_block)

    window.expect_vectors(10_000)

    assert not window.has_room_for(next_block)
