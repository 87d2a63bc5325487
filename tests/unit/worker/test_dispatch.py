"""What becomes of a batch: whose vector is whose, who pays, and what each error leads to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from math import ceil, log2
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from embedpool_shared.errors import (
    CapExceeded,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
)
from embedpool_shared.jobs import Input, LaneClass, MergeKey, WireError
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import HeldPack
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from support.held import MERGE, pack_of
from support.lane_bench import DIMS, Bench, FakeProvider, bench, deployment, vector_of
from support.virtual_time import in_virtual_time

Objection = Callable[[ProviderCall], BaseException | None]


def sent(
    *packs: HeldPack,
    places: Sequence[Deployment] = (),
    provider: FakeProvider | None = None,
    **more: Any,
) -> Bench:
    """Admit these packs together and wait for all that follows."""

    async def run() -> Bench:
        async with bench(*places, provider=provider, **more) as on:
            for pack in packs:
                on.admit(pack)
        return on

    return in_virtual_time(run())


def objecting(objection: Objection, **more: Any) -> FakeProvider:
    return FakeProvider(objection=objection, **more)


def with_key(key: str, error: ProviderError) -> Objection:
    return lambda call: error if call.secret == f"secret-{key}" else None


def error_to(on: Bench, pack: HeldPack, number: int = 0) -> WireError:
    error = on.committer.reply_to(pack, number).error
    assert error is not None
    return error


# Whose vector is whose


def test_equal_texts_are_sent_once_and_everybody_gets_the_vector() -> None:
    pack = pack_of(["x", "y", "x"], ["y"], ["x"])

    on = sent(pack)

    assert on.provider.batches == [["x", "y"]]
    assert on.committer.is_right(pack)


def test_a_job_split_over_two_batches_gets_all_its_vectors_in_order() -> None:
    pack = pack_of(["a", "b", "c", "d", "e"])

    on = sent(pack, places=[deployment(max_items=2)])

    assert on.provider.batches == [["a", "b"], ["c", "d"], ["e"]]
    assert on.committer.is_right(pack)


def test_batches_that_come_back_in_another_order_change_nothing() -> None:
    class SlowAtFirst(FakeProvider):
        @override
        async def embed(self, call: ProviderCall) -> ProviderAnswer:
            await asyncio.sleep(1.0 if "a" in call.inputs else 0.0)
            return await super().embed(call)

    pack = pack_of(["a", "b", "c"], ["d"])

    on = sent(pack, places=[deployment(max_items=2)], provider=SlowAtFirst())

    assert [ending.reply.number for ending in on.committer.endings] == [1, 0]
    assert on.committer.is_right(pack)


def test_token_arrays_get_calls_of_their_own() -> None:
    texts, arrays = pack_of(["x"]), pack_of([[1, 2], [3]])

    on = sent(texts, arrays)

    assert sorted(map(str, on.provider.batches)) == ["['x']", "[[1, 2], [3]]"]
    assert on.committer.is_right(texts)
    assert on.committer.is_right(arrays)


def test_parts_of_a_job_with_vectors_of_different_lengths_are_never_delivered() -> None:
    pack = pack_of(["a", "b"])
    provider = FakeProvider()

    def other_dims(_: ProviderCall) -> None:
        provider.dims = len(provider.calls)

    provider.objection = other_dims

    on = sent(pack, places=[deployment(max_items=1)], provider=provider, slots=1)

    assert error_to(on, pack).kind == "ProviderFailed"
    assert on.committer.endings[0].record.used == 0


def test_the_call_says_what_the_deployment_needs() -> None:
    merge = MergeKey("m", 64, '{"input_type":"query"}')
    place = deployment("k", native_dimensions=256, timeout_s=30.0)

    on = sent(pack_of(["x"], merge=merge, budget_s=9.0), places=[place])

    assert on.provider.calls[0].call == ProviderCall(
        model="upstream",
        inputs=["x"],
        dimensions=64,
        params={"input_type": "query"},
        secret="secret-k",
        timeout_s=9.0,
    )


@pytest.mark.parametrize(
    ("asked", "place", "forwarded"),
    [
        (256, deployment(native_dimensions=256), None),
        (None, deployment(native_dimensions=256), None),
        (64, deployment(native_dimensions=256, forwards_dimensions=False), None),
        (None, deployment(native_dimensions=256, default_dimensions=128), 128),
        (64, deployment(native_dimensions=256, default_dimensions=128), 64),
    ],
    ids=["the native size", "none", "not taken", "the operator's default", "the caller's first"],
)
def test_dimensions_are_forwarded_only_where_they_matter(
    asked: int | None, place: Deployment, forwarded: int | None
) -> None:
    on = sent(pack_of(["x"], merge=MergeKey("m", asked)), places=[place])

    assert on.provider.calls[0].call.dimensions == forwarded


def test_a_wildcard_calls_the_model_by_the_name_that_matched() -> None:
    place = deployment(upstream_model="", pattern="openai/*", target="*")

    on = sent(pack_of(["x"], merge=MergeKey("openai/te-3")), places=[place])

    assert on.provider.calls[0].call.model == "te-3"


def test_a_reply_says_who_answered_and_when() -> None:
    async def run() -> Bench:
        async with bench() as on:
            await asyncio.sleep(2.0)
            on.admit(pack_of(["x"], ["y"], at=1.5))
        return on

    reply = in_virtual_time(run()).committer.endings[0].reply

    assert reply.queue_ms == 500.0
    assert reply.dims == DIMS
    assert reply.trace is not None
    assert reply.trace.provider_ms == 50.0
    assert (reply.trace.model, reply.trace.provider, reply.trace.deployment) == (
        "theirs", "openai", "d",
    )  # fmt: skip
    assert (reply.trace.items, reply.trace.requests, reply.trace.tries) == (2, 2, 1)


# Who pays


def test_a_call_for_one_caller_costs_it_what_the_provider_says() -> None:
    pack = pack_of(["x", "yyyy"])

    on = sent(pack, provider=FakeProvider(total_tokens=17))

    assert on.committer.reply_to(pack).tokens == 17
    record = on.committer.endings[0].record
    assert (record.used, record.paid, record.saved, record.waste) == (17, 17, 0, 0)
    assert (record.account, record.model, record.provider) == ("acme", "m", "openai")


def test_callers_who_share_a_call_pay_what_they_used_by_our_own_count() -> None:
    async def count_in(_: object, encoding: str, inputs: Sequence[str]) -> list[int]:
        assert encoding == "cl100k_base"
        return [len(text) for text in inputs]

    pack = pack_of(["a"], ["bbb"], ["bbb"])

    on = sent(
        pack,
        places=[deployment(encoding="cl100k_base")],
        provider=FakeProvider(total_tokens=4),
        count_in=count_in,
    )

    records = [ending.record for ending in on.committer.endings]
    assert [ending.reply.tokens for ending in on.committer.endings] == [1, 3, 3]
    assert [(r.used, r.paid, r.saved, r.waste) for r in records] == [
        (1, 1, 0, 0), (3, 3, 0, 0), (3, 0, 3, 0),
    ]  # fmt: skip


def test_token_arrays_count_their_ids() -> None:
    pack = pack_of([[1, 2, 3]], [[4]])

    on = sent(pack, provider=FakeProvider(total_tokens=40))

    assert [ending.reply.tokens for ending in on.committer.endings] == [3, 1]


def test_a_count_of_the_adapters_is_believed() -> None:
    class Counting(FakeProvider):
        @override
        async def embed(self, call: ProviderCall) -> ProviderAnswer:
            answer = await super().embed(call)
            return ProviderAnswer(answer.vectors, DIMS, "theirs", 8, item_tokens=[6, 2])

    pack = pack_of(["x"], ["y"])

    on = sent(pack, provider=Counting())

    assert [ending.reply.tokens for ending in on.committer.endings] == [6, 2]


def test_what_was_paid_for_a_job_that_had_failed_meanwhile_is_waste() -> None:
    class SlowWhenPaid(FakeProvider):
        @override
        async def embed(self, call: ProviderCall) -> ProviderAnswer:
            await asyncio.sleep(1.0 if call.inputs == ["paid"] else 0.0)
            return await super().embed(call)

    provider = SlowWhenPaid(total_tokens=5, objection=refusing("refused"))

    on = sent(
        pack_of(["paid", "refused"]), places=[deployment(max_items=1)], provider=provider, slots=2
    )

    assert on.committer.kinds() == ["InputRefused"]
    (waste,) = on.committer.wasted
    assert (waste.used, waste.paid, waste.saved, waste.waste) == (0, 5, 0, 5)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=12),
    st.one_of(st.none(), st.integers(0, 500)),
    st.integers(1, 6),
    st.sets(st.integers(0, 9), max_size=2),
)
def test_the_ledgers_columns_balance_and_the_provider_is_paid_to_the_last_token(
    jobs: list[list[int]], total_tokens: int | None, max_items: int, poison: set[int]
) -> None:
    bad = {f"t{n}" for n in poison}
    provider = objecting(
        lambda call: RefusedInput("no") if bad.intersection(map(str, call.inputs)) else None,
        total_tokens=total_tokens,
    )
    packs = [pack_of([f"t{n}" for n in job]) for job in jobs]

    on = sent(*packs, places=[deployment(max_items=max_items)], provider=provider)

    records = [ending.record for ending in on.committer.endings] + on.committer.wasted
    assert all(r.used + r.waste == r.paid + r.saved for r in records)
    if total_tokens is not None:
        answered = [b for b in provider.batches if not bad.intersection(map(str, b))]
        assert sum(r.paid for r in records) == total_tokens * len(answered)
    kinds = [bool(bad.intersection(f"t{n}" for n in job)) for job in jobs]
    assert [on.committer.reply_to(p).error is not None for p in packs] == kinds


# One bad input


def refusing(*bad: str, error: type[ProviderError] = RefusedInput) -> Objection:
    return lambda call: (
        error("I cannot embed that", code="bad_input") if set(bad) & set(call.inputs) else None
    )


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_one_poisonous_input_among_64_callers_fails_only_its_own_request(place: int) -> None:
    packs = [pack_of([f"text {n}"]) for n in range(64)]

    on = sent(*packs, provider=objecting(refusing(f"text {place}")))

    assert sorted(on.committer.kinds()) == [""] * 63 + ["InputRefused"]
    error = error_to(on, packs[place])
    assert (error.message, error.param, error.code) == (
        "[openai] I cannot embed that", "input[0]", "bad_input",
    )  # fmt: skip
    assert len(on.provider.calls) <= 1 + 2 * 6
    assert all(on.committer.is_right(pack) for pack in packs if pack is not packs[place])


@given(st.integers(1, 40), st.data())
def test_finding_one_poisonous_input_costs_twice_the_halvings(n: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, n - 1))

    on = sent(pack_of(*([f"t{i}"] for i in range(n))), provider=objecting(refusing(f"t{place}")))

    assert on.committer.kinds().count("InputRefused") == 1
    assert len(on.provider.calls) - 1 <= 2 * ceil(log2(n)) + 1


def test_a_poisonous_input_fails_all_of_its_own_request() -> None:
    pack = pack_of(["fine", "bad", "fine too"], ["other"])

    on = sent(pack, provider=objecting(refusing("bad")))

    assert error_to(on, pack, 0).kind == "InputRefused"
    assert on.committer.reply_to(pack, 1).vectors == vector_of("other")


def test_everyone_who_sent_the_poisonous_input_is_told() -> None:
    pack = pack_of(["bad"], ["fine"], ["bad"])

    on = sent(pack, provider=objecting(refusing("bad")))

    assert [bool(on.committer.reply_to(pack, n).error) for n in range(3)] == [True, False, True]


def test_a_call_above_a_cap_is_halved_until_it_fits() -> None:
    provider = objecting(lambda call: CapExceeded("max 10") if len(call.inputs) > 10 else None)
    packs = [pack_of([f"t{n}"]) for n in range(32)]

    on = sent(*packs, provider=provider)

    assert sorted(map(len, provider.batches)) == [8, 8, 8, 8, 16, 16, 32]
    assert all(on.committer.is_right(pack) for pack in packs)


def test_a_call_that_fails_over_to_a_smaller_place_is_cut_before_it_is_sent() -> None:
    provider = objecting(with_key("a", ProviderThrottled("429", retry_after_s=30.0)))
    places = deployment("a"), deployment("b", id_="narrow", max_items=10)
    packs = [pack_of([f"t{n}"]) for n in range(32)]

    on = sent(*packs, places=places, provider=provider)

    assert [len(batch) for batch in provider.batches] == [32, 8, 8, 8, 8]
    assert all(on.committer.is_right(pack) for pack in packs)


def test_a_refusal_that_would_meet_every_input_is_not_bisected() -> None:
    provider = objecting(lambda _: RefusedInput("no such model", param="model"))

    on = sent(*(pack_of([f"t{n}"]) for n in range(8)), provider=provider)

    assert on.committer.kinds() == ["InputRefused"] * 8
    assert len(provider.calls) == 1


# Keys


def two_keys() -> Deployment:
    return deployment("a", "b")


def test_a_rejected_key_is_retired_and_the_other_used_at_once() -> None:
    provider = objecting(with_key("a", KeyRejected("revoked")))
    pack = pack_of(["x"])

    on = sent(pack, places=[two_keys()], provider=provider)

    assert [made.call.secret for made in provider.calls] == ["secret-a", "secret-b"]
    assert provider.times == [0.0, pytest.approx(0.05)]
    assert on.committer.is_right(pack)
    assert [key.is_retired for key in on.permits.keys_of(on.deployments)] == [True, False]


def test_a_rejected_key_is_not_tried_again() -> None:
    provider = objecting(with_key("a", KeyRejected("revoked")))

    async def run() -> None:
        async with bench(two_keys(), provider=provider) as on:
            on.admit(pack_of(["x"]))
            await asyncio.sleep(1.0)
            on.admit(pack_of(["y"], at=1.0))

    in_virtual_time(run())

    assert [made.call.secret for made in provider.calls[1:]] == ["secret-b"] * 2


def test_any_number_of_bad_keys_is_passed_over_while_one_works() -> None:
    place = deployment("a", "b", "c", "d", "e")
    provider = objecting(lambda call: None if call.secret == "secret-e" else KeyRejected("revoked"))
    pack = pack_of(["x"])

    on = sent(pack, places=[place], provider=provider)

    assert on.committer.is_right(pack)
    assert len(provider.calls) == 5


def test_without_any_key_left_the_provider_is_named() -> None:
    pack = pack_of(["x"])

    on = sent(pack, places=[two_keys()], provider=objecting(lambda _: KeyRejected("revoked")))

    error = error_to(on, pack)
    assert (error.kind, error.code) == ("NoKeys", "no_keys")
    assert error.message == "[openai] No available keys for provider 'openai'"
    assert error.retry_after_s is None


def test_a_throttled_key_rests_for_its_retry_after_and_is_used_again() -> None:
    provider = FakeProvider()
    provider.objection = lambda _: (
        ProviderThrottled("slow down", retry_after_s=7.0) if len(provider.calls) == 1 else None
    )
    pack = pack_of(["x"])

    on = sent(pack, places=[deployment("a")], provider=provider)

    assert provider.times == [0.0, pytest.approx(7.05, abs=1e-5)]
    assert on.committer.is_right(pack)
    assert on.committer.reply_to(pack).trace is not None


@pytest.mark.parametrize(("said_s", "rests_s"), [(None, 5.0), (0.0, 5.0), (0.001, 0.1), (2.5, 2.5)])
def test_a_429_always_means_some_rest(said_s: float | None, rests_s: float) -> None:
    provider = FakeProvider()
    provider.objection = lambda _: (
        ProviderThrottled("slow", retry_after_s=said_s) if len(provider.calls) == 1 else None
    )

    sent(pack_of(["x"]), places=[deployment("a")], provider=provider)

    assert provider.times[1] == pytest.approx(0.05 + rests_s, abs=1e-5)


def test_a_throttled_keys_work_goes_on_at_once_with_another_key() -> None:
    provider = objecting(with_key("a", ProviderThrottled("slow", retry_after_s=30.0)))

    on = sent(pack_of(["x"]), places=[two_keys()], provider=provider)

    assert provider.times == [0.0, pytest.approx(0.05)]
    assert on.committer.kinds() == [""]


def test_however_often_the_only_key_is_throttled_the_work_waits_while_it_may() -> None:
    provider = FakeProvider()
    provider.objection = lambda _: (
        ProviderThrottled("slow", retry_after_s=2.0) if len(provider.calls) < 10 else None
    )
    pack = pack_of(["x"], budget_s=60.0)

    on = sent(pack, places=[deployment("a")], provider=provider)

    assert on.committer.is_right(pack)


def test_a_rest_longer_than_the_deadline_is_told_with_its_true_length() -> None:
    provider = objecting(lambda _: ProviderThrottled("slow", retry_after_s=90.0))
    pack = pack_of(["x"], budget_s=60.0)

    on = sent(pack, places=[deployment("a")], provider=provider)

    error = error_to(on, pack)
    assert error.kind == "NoKeys"
    assert error.retry_after_s == pytest.approx(90.0)
    assert on.committer.ended_at == [pytest.approx(0.05)]


def test_a_key_without_money_rests_for_minutes() -> None:
    provider = objecting(with_key("a", QuotaExhausted("insufficient_quota")))

    async def run() -> None:
        async with bench(two_keys(), provider=provider) as on:
            for at in (0.0, 200.0, 400.0):
                await asyncio.sleep(at - asyncio.get_running_loop().time())
                on.admit(pack_of(["x"], at=at))

    in_virtual_time(run())

    used = [made.call.secret for made in provider.calls]
    assert used == [f"secret-{key}" for key in "abbab"]


def test_an_error_names_the_provider_that_made_it() -> None:
    places = [deployment("a", provider="openai"), deployment("b", id_="e", provider="azure")]
    provider = objecting(
        lambda call: KeyRejected("no") if call.secret == "secret-a" else RefusedInput("bad text")
    )
    pack = pack_of(["x"])

    on = sent(pack, places=places, provider=provider)

    assert error_to(on, pack).message == "[azure] bad text"


# Trying again


def test_a_failing_provider_is_tried_three_times_with_growing_bounded_pauses() -> None:
    pack = pack_of(["x"])

    on = sent(pack, provider=objecting(lambda _: ProviderUnavailable("HTTP 500")))

    first, second, third = on.provider.times
    assert 0.05 <= second - first - 0.05 <= 0.1
    assert 0.1 <= third - second - 0.05 <= 0.2
    assert error_to(on, pack).kind == "ProviderFailed"
    assert error_to(on, pack).message == "[openai] HTTP 500"


def test_a_provider_that_recovers_is_not_held_against_anybody() -> None:
    provider = FakeProvider()
    provider.objection = lambda _: (
        ProviderUnavailable("HTTP 503") if len(provider.calls) < 3 else None
    )
    pack = pack_of(["x"])

    on = sent(pack, provider=provider)

    assert on.committer.is_right(pack)
    trace = on.committer.reply_to(pack).trace
    assert trace is not None
    assert trace.tries == 3


def test_nobody_holds_a_permit_while_pausing() -> None:
    provider = FakeProvider()
    provider.objection = lambda call: (
        ProviderUnavailable("HTTP 503") if call.inputs == ["bad"] else None
    )

    async def run() -> Bench:
        async with bench(slots=1, provider=provider) as on:
            on.admit(pack_of(["bad"]))
            await asyncio.sleep(0.001)
            on.admit(pack_of(["good"], at=0.001))
        return on

    on = in_virtual_time(run())

    assert on.provider.batches[:2] == [["bad"], ["good"]]
    assert on.provider.times[1] == pytest.approx(0.05, abs=1e-5)


def test_no_pause_goes_beyond_the_deadline() -> None:
    pack = pack_of(["x"], budget_s=0.08)

    on = sent(pack, provider=objecting(lambda _: ProviderUnavailable("HTTP 500")))

    assert len(on.provider.calls) == 1
    assert error_to(on, pack).kind == "ProviderFailed"


def test_a_provider_that_never_answers_is_cut_off_at_the_deadline() -> None:
    pack = pack_of(["x"], budget_s=5.0)

    on = sent(pack, provider=FakeProvider(takes_s=10_000.0))

    assert error_to(on, pack).kind == "DeadlineExceeded"
    assert on.committer.ended_at == [pytest.approx(5.0)]
    assert on.provider.in_flight == 0


def test_halves_whose_deadline_has_passed_are_not_sent() -> None:
    packs = [pack_of([text], budget_s=0.15) for text in ("a", "b", "bad", "c")]

    on = sent(*packs, provider=objecting(refusing("bad"), takes_s=0.08), slots=1)

    assert set(on.committer.kinds()) <= {"", "InputRefused", "DeadlineExceeded"}
    assert "DeadlineExceeded" in on.committer.kinds()
    assert max(on.provider.times) <= 0.16


# Bad days of our own


def test_an_unexpected_exception_fails_only_its_own_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = objecting(lambda call: ZeroDivisionError("x") if "bug" in call.inputs else None)

    async def run() -> tuple[Bench, HeldPack, HeldPack, HeldPack]:
        async with bench(provider=provider, slots=2) as on:
            fails = on.admit(pack_of(["bug"], ["too"]))
            beside = on.admit(pack_of(["fine"], merge=MergeKey("other")))
            await asyncio.sleep(1.0)
            after = on.admit(pack_of(["after"], at=1.0))
        return on, fails, beside, after

    with caplog.at_level(logging.ERROR):
        on, fails, beside, after = in_virtual_time(run())

    assert [error_to(on, fails, n).kind for n in (0, 1)] == ["InternalError"] * 2
    assert on.committer.is_right(beside)
    assert on.committer.is_right(after)
    assert all(not key.in_flight for key in on.permits.keys_of(on.deployments))
    assert "ZeroDivisionError" in caplog.text
    assert "too" not in caplog.text.split("Traceback")[0]


def test_a_permit_is_given_back_even_if_the_batch_never_reaches_its_call() -> None:
    pack = pack_of(["x"], merge=MergeKey("m", params="no JSON"))

    on = sent(pack)

    assert error_to(on, pack).kind == "InternalError"
    assert not on.provider.calls
    assert not on.provider.calls
    assert all(not key.in_flight for key in on.permits.keys_of(on.deployments))


def test_counting_that_outlives_a_failed_call_is_called_off() -> None:
    cut_off = []

    async def count_in(*_: object) -> list[int]:
        try:
            await asyncio.sleep(1_000.0)
        except asyncio.CancelledError:
            cut_off.append(asyncio.get_running_loop().time())
            raise
        return []

    async def run() -> None:
        provider = objecting(lambda _: RefusedInput("no"))
        place = deployment(encoding="cl100k_base")
        async with bench(place, provider=provider, count_in=count_in) as on:
            on.admit(pack_of(["x"]))
            await asyncio.sleep(1.0)

    in_virtual_time(run())

    assert cut_off == [pytest.approx(0.05)]


def test_bulk_batches_take_bulk_permits() -> None:
    async def run() -> Bench:
        async with bench(deployment(max_items=1), slots=8) as on:
            on.admit(pack_of(*([f"t{n}"] for n in range(20)), lane_class=LaneClass.BULK))
        return on

    assert in_virtual_time(run()).provider.most_in_flight == 6


def test_an_oversize_item_travels_alone() -> None:
    place = deployment(caps=Caps(max_items=64, max_item_tokens=10))
    long: Input = "w" * 100
    pack = pack_of(["a"], [long], ["b"], merge=MERGE)

    on = sent(pack, places=[place])

    assert on.provider.batches == [["a"], [long], ["b"]]
    assert on.committer.is_right(pack)
