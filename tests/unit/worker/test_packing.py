"""Who leaves together: every wanted item once, in order, within the caps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.jobs import Input
from embedpool_worker.caps import Caps
from embedpool_worker.held import Item, items_of
from embedpool_worker.packing import (
    BULK_FILL_SHARE,
    Waiting,
    distinct,
    due_in,
    form,
    input_key,
    is_full,
)
from support.held import pack_of

ROOMY = Caps(max_items=100, max_item_tokens=1_000)

texts = st.text(alphabet="abü", max_size=40)
inputs = st.one_of(texts, st.lists(st.integers(0, 9), min_size=1, max_size=20))
jobs = st.lists(st.lists(inputs, min_size=1, max_size=4), max_size=12)
caps = st.builds(
    Caps,
    max_items=st.integers(1, 6),
    max_item_tokens=st.integers(1, 14),
    max_call_tokens=st.one_of(st.none(), st.integers(1, 30)),
    max_call_bytes=st.one_of(st.none(), st.integers(1, 90)),
)


def waiting_for(*jobs: list[Input], at: float = 0.0, budget_s: float = 60.0) -> Waiting:
    waiting = Waiting()
    for job in pack_of(*jobs, at=at, budget_s=budget_s).open.values():
        for item in items_of(job):
            waiting.append(item)
    return waiting


def sent(waiting: Waiting, caps: Caps) -> list[list[Item]]:
    """Form batches until nothing waits."""
    batches = []
    while waiting.items:
        batch = form(waiting, caps, now=0.0)
        assert batch.items or batch.unwanted
        batches.append(batch.items)
    return batches


def inputs_of(items: list[Item]) -> list[Input]:
    return [item.input for item in items]


# form


@given(jobs, caps)
def test_forming_again_and_again_sends_each_item_once_and_in_order(
    jobs: list[list[Input]], caps: Caps
) -> None:
    waiting = waiting_for(*jobs)
    before = list(waiting.items)

    batches = sent(waiting, caps)

    assert [item for batch in batches for item in batch] == before
    assert (waiting.tokens, waiting.size_bytes) == (0, 0)


@given(jobs, caps)
def test_no_batch_exceeds_a_cap_unless_it_is_one_item_alone(
    jobs: list[list[Input]], caps: Caps
) -> None:
    for batch in sent(waiting_for(*jobs), caps):
        assert len(batch) <= caps.max_items
        if len(batch) > 1:
            tokens, size_bytes = sum(i.tokens for i in batch), sum(i.size_bytes for i in batch)
            assert all(item.tokens <= caps.max_item_tokens for item in batch)
            assert caps.max_call_tokens is None or tokens <= caps.max_call_tokens
            assert caps.max_call_bytes is None or size_bytes <= caps.max_call_bytes


@given(jobs, caps)
def test_texts_and_token_arrays_never_share_a_batch(jobs: list[list[Input]], caps: Caps) -> None:
    for batch in sent(waiting_for(*jobs), caps):
        assert len({isinstance(item.input, str) for item in batch}) == 1


@given(jobs, caps)
def test_a_batch_ends_only_where_the_next_item_would_not_fit(
    jobs: list[list[Input]], caps: Caps
) -> None:
    batches = sent(waiting_for(*jobs), caps)

    for batch, following in pairwise(batches):
        together = Waiting()
        for item in [*batch, following[0]]:
            together.append(item)
        assert len(form(together, caps, now=0.0).items) == len(batch)


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([["x" * 60], ["a"]], [["x" * 60], ["a"]]),
        ([["a"], ["x" * 60], ["b"]], [["a"], ["x" * 60], ["b"]]),
    ],
    ids=["at the front", "in the middle"],
)
def test_an_item_above_its_own_cap_travels_alone(
    jobs: list[list[Input]], expected: list[list[Input]]
) -> None:
    batches = sent(waiting_for(*jobs), Caps(max_items=9, max_item_tokens=10))

    assert list(map(inputs_of, batches)) == expected


def test_an_item_above_a_cap_of_the_call_travels_alone() -> None:
    waiting = waiting_for(["a"], ["x" * 60], ["b"])

    batches = sent(waiting, Caps(max_items=9, max_item_tokens=99, max_call_bytes=50))

    assert list(map(inputs_of, batches)) == [["a"], ["x" * 60], ["b"]]


def test_a_pack_is_begun_once_an_item_of_it_was_sent() -> None:
    waiting = waiting_for(["a"], ["b"])
    pack = waiting.items[0].job.pack
    assert not pack.is_begun

    form(waiting, Caps(max_items=1, max_item_tokens=9), now=0.0)

    assert pack.is_begun


def test_what_is_cancelled_or_too_late_is_reported_and_not_sent() -> None:
    waiting = waiting_for(["a"], ["cancelled", "too"], ["b"])
    late = waiting_for(["late"], budget_s=5.0)
    cancelled, late_job = waiting.items[1].job, late.items[0].job
    cancelled.is_cancelled = True
    waiting.append(late.items[0])

    batch = form(waiting, ROOMY, now=5.0)

    assert inputs_of(batch.items) == ["a", "b"]
    assert batch.unwanted == {cancelled, late_job}


def test_what_has_ended_or_is_somebody_elses_is_dropped_without_a_word() -> None:
    waiting, lost = waiting_for(["ended"], ["a"]), waiting_for(["lost"])
    waiting.items[0].job.has_ended = True
    waiting.append(lost.items[0])
    lost.items[0].job.pack.is_lost = True

    batch = form(waiting, ROOMY, now=0.0)

    assert inputs_of(batch.items) == ["a"]
    assert not batch.unwanted


def test_an_item_is_wanted_up_to_its_deadline() -> None:
    assert form(waiting_for(["x"], budget_s=5.0), ROOMY, now=4.999).items


# bulk in the room that is left


@given(jobs, jobs, caps)
def test_bulk_adds_at_most_its_share_and_only_behind_interactive_items(
    jobs: list[list[Input]], bulk_jobs: list[list[Input]], caps: Caps
) -> None:
    waiting, bulk = waiting_for(*jobs), waiting_for(*bulk_jobs)
    alone = form(waiting_for(*jobs), caps, now=0.0)
    bulk_before = list(bulk.items)

    batch = form(waiting, caps, now=0.0, bulk=bulk)

    own, riding = batch.items[: len(alone.items)], batch.items[len(alone.items) :]
    assert inputs_of(own) == inputs_of(alone.items)
    assert riding == bulk_before[: len(riding)]
    assert sum(i.tokens for i in riding) <= BULK_FILL_SHARE * sum(i.tokens for i in own)
    assert len(batch.items) <= caps.max_items


def test_bulk_fills_the_room_that_is_left() -> None:
    waiting, bulk = waiting_for(["x" * 300]), waiting_for(["y" * 12], ["y" * 12], ["y" * 12])

    batch = form(waiting, ROOMY, now=0.0, bulk=bulk)

    assert inputs_of(batch.items) == ["x" * 300, "y" * 12, "y" * 12]
    assert len(bulk.items) == 1


def test_bulk_never_rides_with_nobody() -> None:
    bulk = waiting_for(["b"])

    assert not form(Waiting(), ROOMY, now=0.0, bulk=bulk).items
    assert len(bulk.items) == 1


# due_in


def test_nothing_waiting_is_never_due() -> None:
    assert due_in(Waiting(), ROOMY, in_flight=0, linger_s=1.0, now=0.0) is None


def test_with_nothing_in_flight_a_batch_is_due_at_once() -> None:
    assert due_in(waiting_for(["x"]), ROOMY, in_flight=0, linger_s=9.0, now=0.0) == 0.0


@pytest.mark.parametrize(
    "limits",
    [
        Caps(max_items=2, max_item_tokens=99),
        Caps(max_items=99, max_item_tokens=99, max_call_tokens=4),
        Caps(max_items=99, max_item_tokens=99, max_call_bytes=12),
    ],
    ids=["items", "tokens", "bytes"],
)
def test_a_full_batch_is_due_at_once(limits: Caps) -> None:
    full, almost = waiting_for(["x" * 6, "y" * 6]), waiting_for(["x" * 6])

    assert is_full(full, limits)
    assert due_in(full, limits, in_flight=1, linger_s=9.0, now=0.0) == 0.0
    assert due_in(almost, limits, in_flight=1, linger_s=9.0, now=0.0) == 9.0


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=8).map(sorted),
    st.floats(0, 5),
    st.floats(0, 20),
)
def test_nobody_is_due_later_than_the_oldest_items_linger(
    arrivals: list[float], linger_s: float, now: float
) -> None:
    waiting = Waiting()
    for at in arrivals:
        waiting.append(waiting_for(["x"], at=at).items[0])

    due_s = due_in(waiting, ROOMY, in_flight=1, linger_s=linger_s, now=now)

    assert due_s == pytest.approx(max(0.0, arrivals[0] + linger_s - now))


# distinct


@given(st.lists(inputs))
def test_each_different_input_is_listed_once_and_found_again(given_: list[Input]) -> None:
    firsts, where = distinct(waiting_for(given_).items if given_ else [])

    listed = [item.input for item in firsts.values()]
    assert list(firsts) == list(map(input_key, listed))
    assert [listed[place] for place in where] == given_
    assert len(listed) == len(set(map(repr, listed)))
    assert all(listed.index(one) == place for place, one in enumerate(listed))
