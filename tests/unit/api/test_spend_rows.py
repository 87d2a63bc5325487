"""However a request's parts are scattered over the log, they make one row that adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.accounts.spend_rows import COUNTED, FENCED, Rows, complete, position
from embedpool_shared.jobs import Bill, LedgerRecord
from embedpool_worker.accounting import FENCED as FENCED_BY_THE_WORKER


def part(request: str, number: int, jobs: int, *, reason: str = "") -> LedgerRecord:
    return LedgerRecord(
        pack_id="p",
        number=number,
        account="key:k",
        model="m",
        provider="openai",
        used=0 if reason else 3,
        paid=3,
        saved=0,
        waste=3 if reason else 0,
        reason=reason,
        price_per_token_pico_usd=7,
        bill=Bill(request=request, jobs=jobs, part=number),
    )


requests = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@given(requests, st.randoms(use_true_random=False), st.integers(1, 4))
def test_every_record_is_in_one_row(jobs: list[int], random: object, size: int) -> None:
    records = [part(f"r{at}", n, count) for at, count in enumerate(jobs) for n in range(count)]
    random.shuffle(records)  # type: ignore[attr-defined]
    rows = Rows()

    for start in range(0, len(records), size):
        rows.add(f"{start + 1}-0", records[start : start + size])

    taken = rows.take(only_whole=True)
    assert not rows.of
    assert len(taken) == len(jobs)
    assert sum(row.used for row in taken) == sum(row.paid for row in taken) == 3 * len(records)
    assert [row.place for row in taken] == sorted((row.place for row in taken), key=position)


def test_a_row_lacking_a_part_is_not_whole_and_can_be_completed_once() -> None:
    rows = Rows()
    rows.add("5-0", [part("r", 0, 3)])
    (row,) = rows.of.values()

    assert rows.take(only_whole=True) == []
    for _ in range(2):
        complete(rows.of, "7-0", [part("other", 1, 3), part("r", 2, 3)])
    complete(rows.of, "1-0", [part("r", 1, 3)])

    assert row.is_whole
    assert (row.place, row.used, row.cost_pico_usd) == (("5-0", 0), 9, 63)


def test_what_was_paid_twice_is_a_row_of_its_own() -> None:
    rows = Rows()
    rows.add("1-0", [part("r", 0, 2), part("r", 0, 2, reason=FENCED), part("r", 1, 2)])

    whole, fenced = rows.take(only_whole=True)

    assert (whole.used, whole.waste, whole.reason) == (6, 0, "")
    assert (fenced.used, fenced.waste, fenced.reason) == (0, 3, FENCED)
    assert fenced.shown()["status"] == "failure"


@pytest.mark.parametrize("reasons", [(COUNTED, "DeadlineExceeded"), ("DeadlineExceeded", COUNTED)])
def test_a_request_failed_when_a_part_of_it_did(reasons: tuple[str, str]) -> None:
    rows = Rows()
    rows.add("1-0", [part("r", at, 2, reason=reason) for at, reason in enumerate(reasons)])

    (row,) = rows.take(only_whole=True)

    assert (row.shown()["status"], row.shown()["reason"]) == ("failure", "DeadlineExceeded")


def test_a_provider_that_counts_more_than_we_do_is_no_failure() -> None:
    rows = Rows()
    rows.add("1-0", [part("r", 0, 2), part("r", 1, 2, reason=COUNTED)])

    (row,) = rows.take(only_whole=True)

    assert (row.shown()["status"], row.shown()["reason"]) == ("success", COUNTED)


def test_a_record_without_a_bill_is_shown_too() -> None:
    rows = Rows()
    rows.add("1000-0", [LedgerRecord("p", 4, "passthrough:ab", "m", "", 1, 1, 0, 0)])

    (row,) = rows.take(only_whole=True)

    shown = row.shown()
    assert shown["request_id"] == "p-4"
    assert (shown["api_key"], shown["token_id"]) == ("passthrough:ab", None)
    assert shown["startTime"] == "1970-01-01T00:00:01+00:00"
    assert (shown["metadata"], shown["request_tags"], shown["provider"]) == ({}, [], None)


def test_api_and_worker_mean_the_same_by_fenced() -> None:
    assert FENCED == FENCED_BY_THE_WORKER
