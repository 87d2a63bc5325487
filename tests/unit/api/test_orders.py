"""An understood request: its class, its cache use, its length, its jobs."""

from __future__ import annotations

from typing import Any

import pytest

from embedpool_api.attribution import NOTHING
from embedpool_api.callers import ANYBODY, Caller
from embedpool_api.cutting import cut
from embedpool_api.orders import Order, cache_use_of, jobs_of, lane_class_of
from embedpool_shared import tokens
from embedpool_shared.accounts import Limits
from embedpool_shared.embedding.fitting import Fitted
from embedpool_shared.embedding.models import Resolved
from embedpool_shared.embedding.request import EmbeddingRequest
from embedpool_shared.errors import BadRequest
from embedpool_shared.jobs import Bill, CacheUse, Input, LaneClass, MergeKey
from support.cards import found

BULK_KEY = Caller(account="key:b", default_class=LaneClass.BULK)


def order_of(
    *inputs: Input,
    resolved: Resolved | None = None,
    counts: list[int] | None = None,
    limits: Limits | None = None,
    **changes: Any,
) -> Order:
    caller = Caller(account="key:a", limited=(("key:a", limits),)) if limits else ANYBODY
    fields: dict[str, Any] = {
        "resolved": resolved or found(),
        "fitted": Fitted(MergeKey("m"), list(inputs), counts),
        "caller": caller,
        "attribution": NOTHING,
        "lane_class": LaneClass.INTERACTIVE,
        "cache": CacheUse.BOTH,
        "call_id": "req_1",
        "give_up_at": 60.0,
    }
    return Order(**(fields | changes))


@pytest.mark.parametrize(
    ("headers", "caller", "expected"),
    [
        ({}, ANYBODY, LaneClass.INTERACTIVE),
        ({}, BULK_KEY, LaneClass.BULK),
        ({b"x-embedpool-class": b"bulk"}, ANYBODY, LaneClass.BULK),
        ({b"x-embedpool-class": b"interactive"}, BULK_KEY, LaneClass.INTERACTIVE),
    ],
)
def test_a_request_says_its_class_itself_or_its_key_does(
    headers: dict[bytes, bytes], caller: Caller, expected: LaneClass
) -> None:
    assert lane_class_of(headers, caller) is expected


def test_an_unknown_class_is_refused_with_the_two_there_are() -> None:
    with pytest.raises(BadRequest, match="'interactive' or 'bulk'") as caught:
        lane_class_of({b"x-embedpool-class": b"batch"}, ANYBODY)

    assert caught.value.param == "x-embedpool-class"


@pytest.mark.parametrize(
    ("control", "fields", "expected"),
    [
        (b"", {}, CacheUse.BOTH),
        (b"max-age=0, no-cache", {}, CacheUse.WRITE),
        (b"No-Store", {}, CacheUse.NEITHER),
        (b"", {"no_cache": True}, CacheUse.WRITE),
        (b"", {"no_store": True}, CacheUse.READ),
        (b"no-cache", {"no_store": True}, CacheUse.NEITHER),
    ],
)
def test_the_cache_is_used_as_the_request_allows(
    control: bytes, fields: dict[str, Any], expected: CacheUse
) -> None:
    request = EmbeddingRequest(model="m", inputs=["a"], **fields)
    headers = {b"cache-control": control} if control else {}

    assert cache_use_of(headers, request) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (None, False),
        (Limits(rpm=1, parallel=1), False),
        (Limits(tpm=1), True),
        (Limits(budget_pico_usd=1), True),
    ],
)
def test_only_limits_on_tokens_or_money_have_a_request_counted(
    limits: Limits | None, expected: bool
) -> None:
    assert order_of("a", limits=limits).needs_tokens is expected


def test_a_counted_order_has_the_models_own_count() -> None:
    order = order_of("hello world", "hi").counted(tokens)

    assert order.fitted.counts == [2, 1]
    assert order.tokens_in(*cut(order.fitted.inputs)) == 3


def test_without_the_models_tokenizer_the_length_is_guessed_from_the_bytes() -> None:
    order = order_of("ääää", "a", resolved=found("wordllama")).counted(tokens)

    assert order.fitted.counts is None
    assert order.tokens_in(*cut(order.fitted.inputs)) == 3


def test_ids_that_were_counted_are_not_counted_again() -> None:
    order = order_of([1, 2, 3], counts=[3])

    assert order.counted(tokens) is order
    assert order.tokens_in(*cut(order.fitted.inputs)) == 3


def test_each_job_takes_its_inputs_its_count_its_price_and_its_part_of_the_bill() -> None:
    texts: list[Input] = [str(n) for n in range(100)]
    resolved = found(price_per_token_pico_usd=20)
    order = order_of(*texts, resolved=resolved, counts=[1] * 100, cache=CacheUse.READ)

    jobs = jobs_of(order, cut(texts), lambda part: Bill("r", 2, part=part))

    assert [item for job in jobs for item in job.inputs] == texts
    assert [job.tokens for job in jobs] == [64, 36]
    assert [job.bill.part for job in jobs if job.bill] == [0, 1]
    assert {job.price_per_token_pico_usd for job in jobs} == {20}
    assert {job.account for job in jobs} == {"caller:open"}
    assert {job.cache for job in jobs} == {CacheUse.READ}
