"""A request is let in before it is queued, and over when it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from embedpool_api.allowances import Standing
from embedpool_api.asks import Admitted, Ask
from embedpool_api.attribution import NOTHING, Attribution
from embedpool_api.callers import MASTER, Caller
from embedpool_api.charges import HOLD_BEYOND_DEADLINE_S, Charge, Charges
from embedpool_api.cutting import Slice, cut
from embedpool_api.orders import Order
from embedpool_shared.accounts import Limits
from embedpool_shared.errors import RateLimited
from support.cards import found
from unit.api.test_orders import order_of

TIGHT = Limits(tpm=100, rpm=1)


class FakeAdmission:
    """Lets everybody in, or nobody, and remembers."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.asked: list[Ask] = []
        self.ends: list[Admitted] = []
        self.given_back: list[Admitted] = []
        self._refusal = refusal

    def ask(self, ask: Ask) -> None:
        self.asked.append(ask)
        if self._refusal:
            ask.refuse(self._refusal)
        else:
            limits = [Standing(name, it, 0, 0, 1, 1, 1, 1) for name, it in ask.limited]
            ask.pass_on(Admitted(ask.share_of("res", 4), limits))

    def ended(self, admitted: Admitted) -> None:
        self.ends.append(admitted)

    def give_back(self, admitted: Admitted) -> None:
        self.given_back.append(admitted)


def opened(
    admission: FakeAdmission, order: Order, *, pieces: Sequence[Slice] | None = None
) -> Charge:
    """Open a charge; what was posted in that moment must be whole. Raises what refused it."""
    any_admission: Any = admission

    async def run() -> Charge:
        posted: list[Charge] = []
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        charge = Charges(any_admission).open(
            order,
            pieces or cut(order.fitted.inputs),
            patience_s=60.0,
            answer=answer,
            post=lambda charge: posted.append(replace(charge)),
        )
        if answer.done():
            await answer
        assert [(one.bill, one.admitted) for one in posted] == [(charge.bill, charge.admitted)]
        return charge

    return asyncio.run(run())


def test_an_open_callers_plain_request_has_no_bill() -> None:
    admission = FakeAdmission()

    assert opened(admission, order_of("a")).bill is None
    assert admission.asked == []


def test_a_request_of_several_jobs_has_a_bill_so_that_it_counts_once() -> None:
    pieces = [Slice(0, 1, 1)] * 3
    bill = opened(FakeAdmission(), order_of("a"), pieces=pieces).bill

    assert bill is not None
    assert bill.jobs == 3


def test_a_caller_without_limits_is_let_in_without_asking() -> None:
    admission = FakeAdmission()

    charge = opened(admission, order_of("a", caller=MASTER))

    assert charge.bill is not None
    assert (charge.bill.call_id, charge.bill.reserved) == ("req_1", [])
    assert admission.asked == []
    assert list(charge.headers()) == []


def test_two_requests_are_told_apart_even_under_one_id_of_the_callers() -> None:
    order = order_of("a", caller=MASTER)
    first, second = (opened(FakeAdmission(), order).bill for _ in range(2))

    assert first is not None
    assert second is not None
    assert first.request != second.request


def test_limits_are_asked_with_the_tokens_their_price_and_the_deadline() -> None:
    admission = FakeAdmission()
    order = order_of("a", counts=[50], limits=TIGHT, resolved=found(price_per_token_pico_usd=20))

    opened(admission, order)

    (asked,) = admission.asked
    assert asked.limited == (("key:a", TIGHT),)
    assert (asked.tokens, asked.cost_pico_usd) == (50, 1_000)
    assert asked.hold_ms == (60 + HOLD_BEYOND_DEADLINE_S) * 1_000


@pytest.mark.parametrize(
    ("counts", "expected"), [([5, 40, 3], [5, 43]), (None, [1, 4])], ids=["counted", "guessed"]
)
def test_every_job_carries_what_was_reserved_for_it(
    counts: list[int] | None, expected: list[int]
) -> None:
    admission = FakeAdmission()
    order = order_of("a", "bcdefg", "hijk", counts=counts, limits=TIGHT)

    charge = opened(admission, order, pieces=[Slice(0, 1, 1), Slice(1, 3, 10)])

    bills = [charge.bill_of(position) for position in range(2)]
    assert [bill.reserved_tokens for bill in bills if bill] == expected
    assert (admission.asked[0].jobs, admission.asked[0].tokens) == (2, sum(expected))
    assert all(bill and (bill.reserved, bill.reservation) == (["key:a"], "res") for bill in bills)


def test_limits_on_requests_alone_are_asked_without_tokens() -> None:
    admission = FakeAdmission()

    opened(admission, order_of("a", limits=Limits(rpm=1)))

    assert admission.asked[0].tokens == 0


def test_a_refusal_is_the_callers() -> None:
    with pytest.raises(RateLimited):
        opened(FakeAdmission(RateLimited("too fast")), order_of("a", limits=TIGHT))


def test_the_accounts_charged_and_what_is_remembered_are_on_the_bill() -> None:
    attribution = Attribution(("team:t", "tag:x"), '{"a":1}')

    bill = opened(FakeAdmission(), order_of("a", attribution=attribution)).bill

    assert bill is not None
    assert bill.accounts == ["team:t", "tag:x"]
    assert bill.metadata == '{"a":1}'


def test_only_the_first_part_carries_the_metadata() -> None:
    order = order_of("a", attribution=Attribution((), '{"a":1}'))
    charge = opened(FakeAdmission(), order, pieces=[Slice(0, 1, 1)] * 2)

    first, second = charge.bill_of(0), charge.bill_of(1)

    assert first is not None
    assert second is not None
    assert (first.part, first.metadata) == (0, '{"a":1}')
    assert (second.part, second.metadata) == (1, "")
    assert first.request == second.request


@pytest.mark.parametrize("never_queued", [False, True])
def test_a_request_that_never_reached_the_queue_counts_nowhere(never_queued: bool) -> None:
    admission: Any = FakeAdmission()
    charges = Charges(admission)
    charge = opened(admission, order_of("a", limits=TIGHT))

    charges.closed(charge, never_queued=never_queued)

    assert (len(admission.given_back), len(admission.ends)) == ((1, 0) if never_queued else (0, 1))


def test_what_nobody_admitted_need_not_be_closed() -> None:
    admission: Any = FakeAdmission()

    Charges(admission).closed(opened(admission, order_of("a", attribution=NOTHING)))

    assert (admission.given_back, admission.ends) == ([], [])


def test_a_key_without_limits_but_with_payers_is_billed() -> None:
    caller = Caller(account="key:k", payers=("team:t",))

    bill = opened(FakeAdmission(), order_of("a", caller=caller)).bill

    assert bill is not None
