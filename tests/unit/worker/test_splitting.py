"""One bad input, a cap nobody knew of, a provider that answers wrongly: who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import ceil, log2
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import CapExceeded, ProviderUnavailable, RefusedInput, WrongAnswer
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import HeldPack
from embedpool_worker.providers.port import ProviderCall
from support.held import pack_of
from support.lane_bench import Bench, FakeProvider, bench, deployment
from support.virtual_time import in_virtual_time

Objection = Callable[[ProviderCall], BaseException | None]


def sent(
    *packs: HeldPack, objection: Objection, places: Sequence[Deployment] = (), **more: Any
) -> Bench:
    """Admit these packs together and wait for all that follows."""

    async def run() -> Bench:
        async with bench(*places, provider=FakeProvider(objection=objection), **more) as on:
            for pack in packs:
                on.admit(pack)
        return on

    return in_virtual_time(run())


def wrong_with(*bad: str) -> Objection:
    return lambda call: WrongAnswer("NaN") if set(bad) & set(map(str, call.inputs)) else None


def at_most(items: int, message: str) -> Objection:
    return lambda call: CapExceeded(message) if len(call.inputs) > items else None


def callers(count: int, *, at: float = 0.0) -> list[HeldPack]:
    return [pack_of([f"text {n} at {at}"], at=at) for n in range(count)]


# Wrong answers


@given(st.integers(1, 40), st.data())
def test_an_input_that_is_always_answered_wrongly_is_found_within_the_bound(
    count: int, data: st.DataObject
) -> None:
    packs = callers(count)
    place = data.draw(st.integers(0, count - 1))

    on = sent(*packs, objection=wrong_with(f"text {place} at 0.0"))

    assert len(on.provider.calls) - 1 <= 2 * ceil(log2(count)) + 1
    error = on.committer.reply_to(packs[place]).error
    assert error is not None
    assert error.kind == "ProviderFailed"
    assert all(on.committer.is_right(pack) for pack in packs if pack is not packs[place])


def test_a_wrong_answer_that_was_an_accident_costs_one_further_call() -> None:
    answers = iter([WrongAnswer("truncated JSON")])
    packs = callers(8)

    on = sent(*packs, objection=lambda _: next(answers, None))

    assert list(map(len, on.provider.batches)) == [8, 8]
    assert all(on.committer.is_right(pack) for pack in packs)
    trace = on.committer.reply_to(packs[0]).trace
    assert trace is not None
    assert trace.tries == 2


def test_a_provider_that_answers_everything_wrongly_is_soon_left_alone() -> None:
    on = sent(*callers(64), objection=lambda _: WrongAnswer("200 with an error in it"))

    assert list(map(len, on.provider.batches)) == [64, 64, 32, 32, 16, 16, 16, 16]
    assert on.committer.kinds() == ["ProviderFailed"] * 64


def test_a_provider_that_is_away_is_not_asked_in_halves() -> None:
    on = sent(*callers(8), objection=lambda _: ProviderUnavailable("HTTP 500"))

    assert set(map(len, on.provider.batches)) == {8}
    assert on.committer.kinds() == ["ProviderFailed"] * 8


def test_a_refused_input_is_not_tried_twice() -> None:
    on = sent(*callers(1), objection=lambda _: RefusedInput("bad text"))

    assert len(on.provider.calls) == 1


# Caps nobody knew of


def sent_in_turn(objection: Objection, *rounds: Sequence[HeldPack], **more: Any) -> Bench:
    """Admit each round a second after the one before."""

    async def run() -> Bench:
        async with bench(provider=FakeProvider(objection=objection), **more) as on:
            for packs in rounds:
                for pack in packs:
                    on.admit(pack)
                await asyncio.sleep(1.0)
        return on

    return in_virtual_time(run())


def test_a_named_cap_is_kept_from_the_very_next_call_on() -> None:
    message = "batch size is invalid, it should not be larger than 10"
    first, second = callers(25), callers(25, at=1.0)

    on = sent_in_turn(at_most(10, message), first, second)

    sizes = list(map(len, on.provider.batches))
    assert sizes[:4] == [25, 8, 8, 9]
    assert sorted(sizes[4:]) == [5, 10, 10]
    assert all(on.committer.is_right(pack) for pack in [*first, *second])


def test_without_a_number_later_calls_are_as_large_as_the_largest_that_was_taken() -> None:
    first, second = callers(32), callers(32, at=1.0)

    on = sent_in_turn(at_most(10, "batch is too large"), first, second)

    sizes = list(map(len, on.provider.batches))
    assert sizes[:7] == [32, 16, 16, 8, 8, 8, 8]
    assert sizes[7:] == [8, 8, 8, 8]
    assert all(on.committer.is_right(pack) for pack in [*first, *second])


def test_one_callers_monstrous_input_makes_nobody_elses_calls_smaller() -> None:
    def objection(call: ProviderCall) -> BaseException | None:
        is_monstrous = "monster" in call.inputs
        return CapExceeded("HTTP 413 without a message") if is_monstrous else None

    first = [*callers(15), pack_of(["monster"])]
    second = callers(16, at=1.0)

    on = sent_in_turn(objection, first, second)

    assert len(on.provider.batches[-1]) == 16
    assert on.committer.kinds().count("InputRefused") == 1


def test_a_cap_is_learned_for_the_deployment_that_refused() -> None:
    small, large = deployment("a", id_="small"), deployment("b", id_="large")
    refusal = CapExceeded("batch size is invalid, it should not be larger than 4")

    def objection(call: ProviderCall) -> BaseException | None:
        return refusal if call.secret == "secret-a" and len(call.inputs) > 4 else None

    on = sent(*callers(8), objection=objection, places=[small, large])

    async def caps() -> list[int]:
        return [on.dispatcher.caps_of(place).max_items for place in (small, large)]

    assert in_virtual_time(caps()) == [4, 64]


@pytest.mark.parametrize("count", [2, 3, 64])
def test_a_cap_of_one_ends_with_everybody_answered(count: int) -> None:
    packs = callers(count)

    on = sent(*packs, objection=at_most(1, "only one input is allowed, at most 1"))

    assert all(on.committer.is_right(pack) for pack in packs)
    assert len(on.provider.calls) == 1 + count
