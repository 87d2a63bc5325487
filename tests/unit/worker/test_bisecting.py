"""The search for what is refused: every input stays in one part, and caps are told from inputs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import CapExceeded, ProviderError, RefusedInput, WrongAnswer
from embedpool_shared.jobs import LaneClass
from embedpool_worker.batch import Batch
from embedpool_worker.bisecting import (
    TaughtCap,
    is_nobodys_fault,
    parts_of,
    taught_at_once,
    taught_by,
)
from embedpool_worker.held import items_of
from embedpool_worker.providers.cap_words import CapKind
from support.held import pack_of


def part_of(*texts: str, refusal: ProviderError | None = None) -> Batch:
    (job,) = pack_of(list(texts)).open.values()
    return Batch(items_of(job), LaneClass.INTERACTIVE, (), refusal=refusal)


def numbered(count: int, refusal: ProviderError | None = None) -> Batch:
    return part_of(*(f"text {n:03}" for n in range(count)), refusal=refusal)


def searched(whole: Batch, *, max_items: int, poison: str = "") -> list[Batch]:
    """Search as the dispatcher does, at a provider with this cap that dislikes one text."""
    calls, refused = [whole], [whole]
    while refused:
        parts = [half for one in refused for half in parts_of(one, max_items=len(one.inputs))]
        calls += parts
        for part in parts:
            if poison in part.inputs:
                part.refusal = CapExceeded("HTTP 413 without a message")
            elif len(part.inputs) > max_items:
                part.refusal = CapExceeded("batch is too large")
            part.was_answered = part.refusal is None
            if part.refusal and len(part.inputs) == 1:
                part.refused_alone()
        refused = [part for part in parts if part.refusal and len(part.inputs) > 1]
    return calls


# Parts


@given(st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=30), st.integers(1, 12))
def test_parts_hold_every_item_once_and_equal_inputs_together(
    texts: list[str], max_items: int
) -> None:
    whole = part_of(*texts)
    if len(whole.inputs) < 2:
        return

    parts = parts_of(whole, max_items=max_items)

    assert sorted(i.position for p in parts for i in p.items) == list(range(len(texts)))
    assert sum(len(part.inputs) for part in parts) == len(whole.inputs)
    assert all(len(part.inputs) <= max(max_items, -(-len(whole.inputs) // 2)) for part in parts)
    assert all(part.within is whole and part.inputs for part in parts)
    sizes = [len(part.inputs) for part in parts]
    assert max(sizes) - min(sizes) <= 1


# What refusals teach


def test_a_named_number_of_items_is_believed_at_once() -> None:
    refused = numbered(25, CapExceeded("batch size is invalid, it should not be larger than 10"))

    assert list(taught_at_once([refused])) == [TaughtCap(CapKind.ITEMS, 10, is_named=True)]


def test_a_number_that_does_not_explain_the_refusal_is_not_believed() -> None:
    refused = numbered(9, CapExceeded("batch size is invalid, it should not be larger than 10"))

    assert not list(taught_at_once([refused]))
    assert not list(taught_by([refused]))


def test_a_number_of_tokens_is_believed_only_once_no_single_input_is_to_blame() -> None:
    refusal = CapExceeded("Too many tokens in batch. Max is 20 tokens")
    whole = numbered(16, refusal)
    first, second = parts_of(whole, max_items=16)
    first.was_answered = second.was_answered = True

    assert not list(taught_at_once([whole]))
    assert list(taught_by([whole, first, second])) == [
        TaughtCap(CapKind.CALL_TOKENS, 20, is_named=True)
    ]

    second.refusal = refusal
    second.refused_alone()
    assert not list(taught_by([whole, first, second]))


@given(st.integers(2, 64), st.integers(1, 63))
def test_without_a_number_the_largest_call_answered_is_the_cap(count: int, max_items: int) -> None:
    whole = numbered(count, CapExceeded("batch is too large"))
    if count <= max_items:
        return

    calls = searched(whole, max_items=max_items)

    (cap,) = taught_by(calls)
    assert cap == TaughtCap(
        CapKind.ITEMS, max(len(c.inputs) for c in calls if c.was_answered), is_named=False
    )
    assert max_items / 2 <= cap.number <= max_items


@given(st.integers(2, 64), st.data())
def test_one_input_that_is_too_large_teaches_nothing_of_caps(
    count: int, data: st.DataObject
) -> None:
    whole = numbered(count, CapExceeded("HTTP 413 without a message"))
    poison = str(whole.inputs[data.draw(st.integers(0, count - 1))])

    calls = searched(whole, max_items=100, poison=poison)

    assert not list(taught_by(calls))


def test_a_413_without_words_is_about_bytes() -> None:
    whole = numbered(4, CapExceeded("HTTP 413 without a message"))
    halves = parts_of(whole, max_items=4)
    for half in halves:
        half.was_answered = True

    assert list(taught_by([whole, *halves])) == [
        TaughtCap(CapKind.CALL_BYTES, 2 * len("text 000"), is_named=False)
    ]


def test_the_size_of_a_refused_input_that_is_no_cap_teaches_nothing() -> None:
    whole = numbered(4, RefusedInput("bad text"))
    halves = parts_of(whole, max_items=4)
    for half in halves:
        half.was_answered = True

    assert not list(taught_by([whole, *halves]))


# Whose fault it is


def test_only_wrong_answers_to_everything_are_nobodys_fault() -> None:
    wrong = [numbered(2, WrongAnswer("NaN")) for _ in range(4)]

    assert is_nobodys_fault(wrong)
    assert not is_nobodys_fault(wrong[:2])
    assert not is_nobodys_fault([*wrong, numbered(2)])
    assert not is_nobodys_fault([*wrong[:3], numbered(2, RefusedInput("bad text"))])
