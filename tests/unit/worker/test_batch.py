"""The items of one call: what is sent of them, and where it may be sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedpool_shared.jobs import LaneClass
from embedpool_worker.batch import Batch
from embedpool_worker.caps import Caps
from embedpool_worker.held import items_of
from embedpool_worker.providers.cap_words import CapKind
from support.held import pack_of

LARGE = Caps(max_items=100, max_item_tokens=1_000)


def batch_of(*texts: str) -> Batch:
    (job,) = pack_of(list(texts)).open.values()
    return Batch(items_of(job), LaneClass.INTERACTIVE, ())


def test_equal_inputs_are_sent_once_and_every_item_knows_its_place() -> None:
    batch = batch_of("abc", "b", "abc", "abcdef", "b")

    assert batch.inputs == ["abc", "b", "abcdef"]
    assert batch.where == [0, 1, 0, 2, 1]


def test_a_batch_is_wanted_as_long_as_the_most_patient_of_its_callers_waits() -> None:
    first, second, third = pack_of(["a"], ["b"], ["c"]).open.values()
    second.deadline_at += 5.0

    batch = Batch(
        [item for job in (first, second, third) for item in items_of(job)],
        LaneClass.INTERACTIVE,
        (),
    )

    assert batch.deadline_at == second.deadline_at > first.deadline_at


def test_a_call_is_measured_in_distinct_inputs() -> None:
    batch = batch_of("abc", "abc", "abcdef")

    assert batch.size(CapKind.ITEMS) == 2
    assert batch.size(CapKind.CALL_BYTES) == 9
    assert batch.size(CapKind.CALL_TOKENS) == 3


@pytest.mark.parametrize(
    "caps",
    [
        replace(LARGE, max_items=1),
        replace(LARGE, max_item_tokens=1),
        replace(LARGE, max_call_tokens=2),
        replace(LARGE, max_call_bytes=8),
    ],
    ids=["items", "tokens of an item", "tokens", "bytes"],
)
def test_a_batch_fits_where_no_cap_is_exceeded_and_a_single_input_always(caps: Caps) -> None:
    assert batch_of("abc", "abc", "abcdef").fits(LARGE)
    assert not batch_of("abc", "abc", "abcdef").fits(caps)
    assert batch_of("abcdef", "abcdef").fits(caps)


def test_a_batch_fits_caps_it_just_reaches() -> None:
    caps = Caps(max_items=2, max_item_tokens=2, max_call_tokens=3, max_call_bytes=9)

    assert batch_of("abc", "abc", "abcdef").fits(caps)
