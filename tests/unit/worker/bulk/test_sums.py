"""A part's records are the sums of its lines' records, whatever these are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.jobs import Bill, LedgerRecord
from embedpool_worker.accounting import saved_and_wasted
from embedpool_worker.bulk.sums import bill_of, of_an_earlier_try, summed
from support.bulk_records import batch_record_of

BATCH = batch_record_of(account="key:k", payers=("team:t", "tag:x"))


def record(
    *,
    used: int = 10,
    paid: int = 10,
    provider: str = "openai",
    reason: str = "",
    price: int = 2,
    cached: int = 0,
) -> LedgerRecord:
    saved, waste = saved_and_wasted(used, paid)
    return LedgerRecord(
        "batch_1", 7, "key:k", "m", provider, used, paid, saved, waste, reason, items=1,
        price_per_token_pico_usd=price, cached=cached, dims=8,
    )  # fmt: skip


records = st.builds(
    record,
    used=st.integers(0, 50),
    paid=st.integers(0, 50),
    provider=st.sampled_from(["", "openai", "cohere"]),
    reason=st.sampled_from(["", "count", "ProviderFailed"]),
    price=st.sampled_from([0, 2]),
)


def test_a_batch_is_charged_to_all_of_its_payers_and_settles_no_reservation() -> None:
    bill = bill_of(BATCH)

    assert bill == Bill("batch_1", 1, ["team:t", "tag:x"], [], "batch_1")


def test_lines_of_one_provider_make_one_record() -> None:
    (sum_,) = summed([record(), record(used=5, paid=0), record(cached=10)], batch=BATCH, number=3)

    assert (sum_.pack_id, sum_.number, sum_.bill) == ("batch_1", 3, bill_of(BATCH))
    assert (sum_.used, sum_.paid, sum_.saved, sum_.waste) == (25, 20, 5, 0)
    assert (sum_.requests, sum_.items, sum_.cached, sum_.dims) == (3, 3, 10, 8)
    assert sum_.cost_pico_usd == 30


def test_providers_reasons_and_prices_stay_apart() -> None:
    found = summed(
        [record(), record(provider="cohere"), record(reason="count"), record(price=3)],
        batch=BATCH,
        number=1,
    )

    assert len(found) == 4


def test_an_earlier_try_is_no_request_of_its_own() -> None:
    earlier = of_an_earlier_try(record(used=0, reason="ProviderFailed"))

    found = summed([earlier, record()], batch=BATCH, number=1)

    assert [(one.requests, one.items, one.paid) for one in found] == [(0, 0, 10), (1, 1, 10)]


def test_what_says_nothing_is_left_out() -> None:
    nothing = of_an_earlier_try(record(used=0, paid=0, reason="NoKeys"))

    assert summed([nothing], batch=BATCH, number=1) == []


def test_the_records_of_the_lines_stay_as_they_are() -> None:
    first, second = record(), record()

    summed([first, second], batch=BATCH, number=1)

    assert first == second == record()


@given(st.lists(records, max_size=30))
def test_sums_balance_and_nothing_is_lost(listed: list[LedgerRecord]) -> None:
    found = summed(listed, batch=BATCH, number=1)

    for column in ("used", "paid", "saved", "waste", "cost_pico_usd", "requests", "items"):
        assert sum(getattr(one, column) for one in found) == sum(
            getattr(one, column) for one in listed
        )
    assert all(one.used + one.waste == one.paid + one.saved for one in found)
