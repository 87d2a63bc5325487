"""What the ledger remembers of a job, however it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import ProviderFailed
from embedpool_shared.jobs import Bill, CallTrace, LedgerRecord
from embedpool_worker.accounting import FENCED
from embedpool_worker.endings import answered, failed, late, wasted
from embedpool_worker.held import HeldJob
from support.held import pack_of

TRACE = CallTrace("m", "openai", "d", 1, 1, 1, 5.0)
BILL = Bill("r", 2, ["team:t"], ["key:k"])


def job(
    *, items: int = 2, tokens: int = 0, used: int = 8, paid: int = 8, cached: int = 0
) -> HeldJob:
    """A job whose vectors are all there, by default used as paid."""
    one = pack_of([f"t{n}" for n in range(items)]).open[0]
    one.job.tokens, one.job.account = tokens, "key:k"
    one.job.price_per_token_pico_usd, one.job.bill = 3, BILL
    one.vectors = [b"\0" * 8] * items
    one.used_tokens, one.paid_tokens, one.cached_tokens = used, paid, cached
    return one


def answer_record(one: HeldJob) -> LedgerRecord:
    return answered(one, 2, TRACE, began_at=0.0).record


@pytest.mark.parametrize(
    "record",
    [
        answer_record(job()),
        failed(job(), ProviderFailed("no")).record,
        late(job(), "openai", 5),
        wasted(answer_record(job())),
    ],
    ids=["answered", "failed", "late", "wasted"],
)
def test_every_record_says_who_pays_and_what_is_to_be_settled(record: LedgerRecord) -> None:
    assert (record.account, record.bill, record.price_per_token_pico_usd) == ("key:k", BILL, 3)
    assert record.used + record.waste == record.paid + record.saved


def test_an_answer_is_recorded_with_its_size() -> None:
    record = answer_record(job(items=3))

    assert (record.items, record.dims, record.provider, record.reason) == (3, 2, "openai", "")
    assert record.cost_pico_usd == 8 * 3


def test_what_a_failed_job_had_from_the_cache_costs_and_saves_nothing() -> None:
    record = failed(job(used=9, paid=5, cached=4), ProviderFailed("no")).record

    assert (record.used, record.paid, record.saved, record.waste, record.cached) == (0, 5, 0, 5, 0)
    assert record.cost_pico_usd == 0


@pytest.mark.parametrize("tokens", [0, 11], ids=["our own count", "the api's count"])
def test_an_answer_all_from_the_cache_costs_nothing(tokens: int) -> None:
    record = answer_record(job(tokens=tokens, used=8, paid=0, cached=8))

    assert record.used == record.cached == record.saved == (tokens or 8)
    assert record.cost_pico_usd == 0


def test_a_reply_says_what_of_it_came_from_the_cache() -> None:
    one = job(items=3, used=9, paid=6, cached=3)
    one.cached_items = 1

    reply = answered(one, 2, TRACE, began_at=0.0).reply

    assert (reply.tokens, reply.cached, reply.cached_tokens) == (9, 1, 3)


@given(st.integers(0, 40), st.integers(0, 40), st.data())
def test_cached_tokens_are_saved_and_never_more_than_used(
    tokens: int, used: int, data: st.DataObject
) -> None:
    cached = data.draw(st.integers(0, used))
    paid = data.draw(st.integers(0, used - cached))

    record = answer_record(job(tokens=tokens, used=used, paid=paid, cached=cached))

    assert record.used + record.waste == record.paid + record.saved
    assert 0 <= record.cached <= record.used
    if tokens == 0:
        assert record.cached == cached <= record.saved


def test_waste_is_nobodys_ending() -> None:
    record = wasted(answer_record(job(used=8, paid=5, cached=2)))

    assert (record.used, record.saved, record.cached, record.waste) == (0, 0, 0, 5)
    assert (record.reason, record.items, record.cost_pico_usd) == (FENCED, 0, 0)
