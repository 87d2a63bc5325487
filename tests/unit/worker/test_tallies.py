"""Everybody's sums are the sums of their records, and a job settles once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.jobs import Bill, LedgerRecord
from embedpool_worker.accounting import FENCED, saved_and_wasted
from embedpool_worker.endings import wasted
from embedpool_worker.tallies import EVERYBODY, Settlement, Tallies, Tally

RESERVED = Bill("r", 2, ["team:t"], ["key:k"], reservation="res", reserved_tokens=12)
OTHERS = ["team:a", "team:b", "user:u", "end_user:e:f", "tag:x", "tag:y"]


def record(
    *,
    account: str = "key:k",
    provider: str = "openai",
    used: int = 10,
    paid: int = 10,
    cached: int = 0,
    price: int = 3,
    bill: Bill | None = None,
    reason: str = "",
) -> LedgerRecord:
    saved, waste = saved_and_wasted(used, paid)
    return LedgerRecord(
        "p", 0, account, "m", provider, used=used, paid=paid, saved=saved, waste=waste,
        reason=reason, price_per_token_pico_usd=price, cached=cached, bill=bill,
    )  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> LedgerRecord:
    used = draw(st.integers(0, 50))
    bill = None
    if draw(st.booleans()):
        own = draw(st.lists(st.sampled_from(OTHERS), max_size=4))
        reserved = draw(st.lists(st.sampled_from(["key:k", *own]), unique=True))
        bill = Bill(
            "r", 3, own, reserved, part=draw(st.integers(0, 2)),
            reservation=draw(st.sampled_from(["r1", "r2", "r3"])),
            reserved_tokens=draw(st.integers(0, 50)),
        )  # fmt: skip
    one = record(
        account=draw(st.sampled_from(["key:k", "caller:open", ""])),
        provider=draw(st.sampled_from(["", "openai"])),
        used=used,
        paid=draw(st.integers(0, 50)),
        cached=draw(st.integers(0, used)),
        bill=bill,
    )
    return wasted(one) if draw(st.booleans()) else one


def tallied(*listed: LedgerRecord, lane: str = "m") -> dict[str, Tally]:
    tallies = Tallies(lane)
    tallies.add(listed)
    return dict(tallies.of)


@given(st.lists(records(), max_size=20), st.integers(0, 20))
def test_every_accounts_sums_are_those_of_its_records_and_balance(
    listed: list[LedgerRecord], cut: int
) -> None:
    tallies = Tallies("m")
    tallies.add(listed[:cut])
    tallies.add(listed[cut:])

    for account, tally in tallies.of.items():
        own = [r for r in listed if is_about(account, r)]
        assert tally.used == sum(r.used for r in own)
        assert tally.paid == sum(r.paid for r in own)
        assert tally.saved == sum(r.saved for r in own)
        assert tally.waste == sum(r.waste for r in own)
        assert tally.cost_pico_usd == sum(r.cost_pico_usd for r in own)
        assert tally.used + tally.waste == tally.paid + tally.saved
    mentioned = {name for r in listed for name in (r.account, *(r.bill.accounts if r.bill else ()))}
    assert mentioned - {""} <= set(tallies.of)


def is_about(account: str, one: LedgerRecord) -> bool:
    return account in (
        one.account, *(one.bill.accounts if one.bill else ()),
        f"provider:{one.provider}", "model:m", "global:all",
    )  # fmt: skip


@given(st.lists(records(), max_size=20))
def test_whoever_has_a_reservation_is_told_of_every_ending_once(
    listed: list[LedgerRecord],
) -> None:
    found = tallied(*listed)

    for account, tally in found.items():
        for reservation, settlement in tally.settlements.items():
            endings = [
                (r, r.bill) for r in listed
                if r.bill and r.bill.reservation == reservation and account in r.bill.reserved
                and r.reason != FENCED
            ]  # fmt: skip
            tokens = sum(bill.reserved_tokens for _, bill in endings)
            used = sum(r.used for r, _ in endings)
            assert settlement == Settlement(len(endings), tokens, 3 * tokens, used)
    expected = {
        (account, r.bill.reservation)
        for r in listed
        if r.bill and r.reason != FENCED
        for account in r.bill.reserved
    }
    assert {(a, one) for a, tally in found.items() for one in tally.settlements} == expected


def test_a_record_counts_for_its_payer_its_bill_its_lane_its_provider_and_everybody() -> None:
    bill = Bill("r", 1, ["team:t", "tag:x", "tag:x"])

    found = tallied(record(bill=bill, used=4, paid=4), lane="openai/*")

    assert set(found) == {
        "key:k", "team:t", "tag:x", "model:openai/*", "provider:openai", EVERYBODY,
    }  # fmt: skip
    assert {tally.used for tally in found.values()} == {4}


@pytest.mark.parametrize(
    ("listed", "requests"),
    [
        ([record(bill=Bill("r", 3, part=part)) for part in (2, 0, 1)], 1),
        ([record(bill=Bill("r", 3, part=part)) for part in (1, 2)], 0),
        ([record(), record()], 2),
        ([record(used=0, paid=0, reason="cancelled")], 1),
        ([record(), wasted(record())], 1),
    ],
    ids=["in parts", "its first part elsewhere", "without a bill", "cancelled", "paid twice"],
)
def test_a_request_counts_once(listed: list[LedgerRecord], requests: int) -> None:
    assert tallied(*listed)[EVERYBODY].requests == requests


def test_money_is_for_what_was_used_and_not_cached() -> None:
    found = tallied(record(used=10, cached=4, price=20), record(used=0, paid=7, reason="failed"))

    assert found["key:k"].cost_pico_usd == 120


def test_paying_twice_costs_nobody_anything() -> None:
    found = tallied(wasted(record(used=10, paid=10, cached=3)))

    assert found["key:k"] == Tally(paid=10, waste=10)


def failing() -> LedgerRecord:
    return record(used=0, paid=5, reason="ProviderFailed", bill=RESERVED)


def cancelled() -> LedgerRecord:
    return record(used=0, paid=0, reason="cancelled", bill=RESERVED)


@pytest.mark.parametrize("ending", [failing, cancelled])
def test_a_job_nobody_used_gives_its_reservation_back(ending: Callable[[], LedgerRecord]) -> None:
    assert tallied(ending())["key:k"].settlements == {"res": Settlement(1, 12, 36, 0)}


def test_sums_and_settlements_are_listed_as_the_script_reads_them() -> None:
    tally = tallied(record(bill=RESERVED, used=5, paid=4, cached=1, price=2))["key:k"]

    assert tally.sums() == [1, 8, 5, 4, 1, 0]
    assert tally.settled() == [1, "res", 1, 12, 24, 5]


def test_a_record_of_many_lines_counts_for_all_of_them_and_one_of_a_vain_try_for_none() -> None:
    many, vain = record(bill=Bill("batch_1", 1, ["team:a"])), record(used=0)
    many.requests, vain.requests = 500, 0

    sums = tallied(many, vain)

    assert sums["team:a"].requests == sums[EVERYBODY].requests == 500
    assert sums[EVERYBODY].waste == 10


def test_lines_paid_twice_are_no_requests() -> None:
    many = record()
    many.requests = 500

    assert tallied(wasted(many))[EVERYBODY].requests == 0
