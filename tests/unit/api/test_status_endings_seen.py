"""The newest usage records say how full batches were, what failed and what it cost; never why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.status.endings_seen import (
    MAX_BYTES,
    MAX_FAULTS,
    MAX_ROWS,
    Logged,
    ended,
    faults,
    filling,
    logged,
    rows_of,
    spending,
)
from embedpool_api.status.lanes_seen import DeadLetter
from embedpool_shared.jobs import WIRE_VERSION, LedgerRecord, encode
from unit.api.usage_records import booked, record


def entry(
    *records: LedgerRecord, at: int = 1, lane: str = "m", committed_ms: int = 1_000
) -> Logged:
    return Logged(f"{at}-0", lane, committed_ms, list(records))


def found(*entries: tuple[bytes, Sequence[LedgerRecord] | bytes]) -> list[Any]:
    return [
        [
            entry_id,
            [b"r", it if isinstance(it, bytes) else encode(list(it)), b"i", b"77-3", b"l", b"m"],
        ]
        for entry_id, it in entries
    ]


def test_entries_are_read_with_their_lane_and_the_instant_of_their_commit() -> None:
    one = record("a")

    assert logged(found((b"5-1", [one]))) == [Logged("5-1", "m", 77, [one])]


def test_records_of_a_newer_version_are_passed_over() -> None:
    newer = bytes([WIRE_VERSION + 1]) + b"anything"

    entries = logged(found((b"3-0", newer), (b"2-0", b"\x01broken"), (b"1-0", [record("a")])))

    assert [it.id for it in entries] == ["1-0"]


def test_what_is_too_large_is_left_to_the_spend_log() -> None:
    large = record("large", metadata="x" * (MAX_BYTES // 2))

    entries = logged(found((b"3-0", [large]), (b"2-0", [large]), (b"1-0", [record("a")])))

    assert [it.id for it in entries] == ["3-0", "1-0"]


def test_records_of_one_commit_are_one_batch() -> None:
    entries = [
        entry(record("a"), record("b"), at=3, committed_ms=20),
        entry(record("c"), at=2, committed_ms=20),
        entry(record("d"), at=1, committed_ms=10),
        entry(record("e"), at=4, committed_ms=20, lane="other"),
    ]

    seen = filling(entries)

    assert (seen["m"].batches, seen["m"].items, seen["m"].requests) == (2, 2.0, 2.0)
    assert (seen["other"].batches, seen["other"].items) == (1, 1.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 64)), min_size=1))
def test_no_item_is_in_two_batches(sent: list[tuple[int, int]]) -> None:
    entries = [
        entry(record(str(at), items=items), at=at, committed_ms=ms)
        for at, (ms, items) in enumerate(sent)
    ]

    seen = filling(entries)["m"]

    assert seen.batches == len({ms for ms, _ in sent})
    assert seen.batches * seen.items == pytest.approx(sum(items for _, items in sent))


def test_what_no_call_was_made_for_is_in_no_batch() -> None:
    cached = record("c", cached=10)
    entries = [entry(record("a", reason="cancelled"), record("b", reason="fenced"), cached)]

    assert filling(entries) == {}


def test_lines_of_a_batch_are_many_requests_but_in_no_call_that_could_be_told() -> None:
    entries = [
        entry(booked("batch_1", requests=500, items=700), at=2),
        entry(booked("batch_2", requests=1), record("a", items=3), at=1),
    ]

    rows = rows_of(entries)

    assert (filling(entries)["m"].batches, filling(entries)["m"].items) == (1, 3.0)
    assert spending(rows).requests == 502
    assert spending(rows).items == 704
    assert sorted((it.requests, it.items) for it in ended(rows)) == [(1, 1), (1, 3), (500, 700)]


def test_what_only_was_tried_in_vain_before_is_no_request_but_costs() -> None:
    rows = rows_of([entry(booked("batch_1", requests=0, items=0, reason="ProviderFailed"))])

    assert (ended(rows), faults(rows, [])) == ([], [])
    assert (spending(rows).requests, spending(rows).waste) == (0, 10)


def test_lines_of_a_batch_that_failed_alike_are_one_failure() -> None:
    (fault,) = faults(rows_of([entry(booked("batch_1", requests=7, reason="BadRequest"))]), [])

    assert (fault.kind, fault.status, fault.request_id) == ("BadRequest", 400, "batch_1")


def test_an_answer_the_provider_counted_otherwise_is_no_failure() -> None:
    counted = record("a", reason="count")

    rows = rows_of([entry(counted)])

    assert faults(rows, []) == []
    assert ended(rows)[0].kind == ""
    assert filling([entry(counted)])["m"].batches == 1


def test_a_failure_is_shown_by_class_status_and_code() -> None:
    (fault,) = faults(rows_of([entry(record("a", reason="NoKeys"), at=9)]), [])

    assert (fault.kind, fault.status, fault.code) == ("NoKeys", 503, "no_keys")
    assert (fault.at_ms, fault.model, fault.provider) == (9, "m", "openai")
    assert fault.request_id == "req_a"


def test_a_failure_nobody_was_told_of_has_no_status() -> None:
    (fault,) = faults(rows_of([entry(record("a", reason="cancelled"))]), [])

    assert (fault.kind, fault.status, fault.code) == ("cancelled", None, None)


def test_dead_letters_are_among_the_failures_in_their_order() -> None:
    rows = rows_of([entry(record("a", reason="ProviderFailed"), at=5)])

    seen = faults(
        rows, [DeadLetter(at_ms=7, model="d", items=2), DeadLetter(at_ms=3, model="d", items=1)]
    )

    assert [(it.at_ms, it.kind) for it in seen] == [
        (7, "dead letter"),
        (5, "ProviderFailed"),
        (3, "dead letter"),
    ]


def test_no_field_of_a_failure_could_hold_what_was_said_of_it() -> None:
    (fault,) = faults(rows_of([entry(record("a", reason="NoKeys", metadata='{"x":"y"}'))]), [])

    assert dataclasses.asdict(fault).keys() == {
        "at_ms", "model", "provider", "kind", "status", "code", "items", "request_id",
    }  # fmt: skip


def test_lists_are_bounded_and_newest_first() -> None:
    rows = rows_of([entry(record(str(at), reason="NoKeys"), at=at) for at in range(1, 60)])

    assert [it.at_ms for it in faults(rows, [])] == list(range(59, 59 - MAX_FAULTS, -1))
    assert [it.at_ms for it in ended(rows)] == list(range(59, 59 - MAX_ROWS, -1))


def test_a_request_in_parts_is_one_row_and_its_sums_are_exact() -> None:
    entries = [
        entry(record("a", part=0, jobs=2, tokens=30, price=1_000), at=1),
        entry(record("a", part=1, jobs=2, tokens=12, price=1_000), at=2),
        entry(record("b", tokens=5, reason="fenced"), at=3),
    ]

    rows = rows_of(entries)
    sums = spending(rows)

    assert len([it for it in ended(rows) if it.used == 42]) == 1
    assert (sums.requests, sums.used, sums.paid, sums.waste) == (1, 42, 47, 5)
    assert sums.usd == pytest.approx(42_000 / 1e12)
    assert sums.since_ms == 1


def test_without_records_nothing_is_shown() -> None:
    assert rows_of([]) == []
    assert spending([]).since_ms is None
