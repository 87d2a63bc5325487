"""Inputs already on their way are awaited, not sent again; who joined shares their fate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import CapExceeded, ProviderUnavailable, RefusedInput
from embedpool_shared.jobs import Input, LaneClass, MergeKey
from embedpool_worker.flights import Flight, Flights
from embedpool_worker.held import HeldPack, items_of
from embedpool_worker.providers.port import ProviderCall
from support.held import MERGE, pack_of
from support.lane_bench import Bench, FakeProvider, bench, deployment
from support.virtual_time import in_virtual_time


def sent(*packs: HeldPack, places: Any = (), **more: Any) -> Bench:
    """Admit each pack when it arrived and wait for all that follows."""

    async def run() -> Bench:
        async with bench(*places, **more) as on:
            for pack in packs:
                await asyncio.sleep(max(0.0, pack.arrived_at - asyncio.get_running_loop().time()))
                on.admit(pack)
        assert on.dispatcher.flights.joining(MERGE) is None, "everything has landed"
        return on

    return in_virtual_time(run())


def kind_of(on: Bench, pack: HeldPack) -> str:
    error = on.committer.reply_to(pack).error
    return error.kind if error else ""


@pytest.mark.parametrize("given", ["x", [1, 2, 3]], ids=["a text", "a token array"])
def test_an_input_in_flight_is_not_sent_again(given: Input) -> None:
    first, second = pack_of([given]), pack_of([given], at=0.02)

    on = sent(first, second, provider=FakeProvider(total_tokens=7))

    assert on.provider.batches == [[given]]
    assert on.committer.is_right(first)
    assert on.committer.is_right(second)
    assert on.committer.ended_at == [pytest.approx(0.05)] * 2


def test_who_joined_used_as_much_and_paid_nothing() -> None:
    async def count_in(_: object, __: str, inputs: list[str]) -> list[int]:
        return [len(text) for text in inputs]

    on = sent(
        pack_of(["xxx"]), pack_of(["xxx"], at=0.02),
        places=[deployment(encoding="cl100k_base")],
        provider=FakeProvider(total_tokens=3), count_in=count_in,
    )  # fmt: skip

    records = [ending.record for ending in on.committer.endings]
    assert [(r.used, r.paid, r.saved, r.waste) for r in records] == [(3, 3, 0, 0), (3, 0, 3, 0)]


def test_a_job_may_be_partly_in_flight_partly_waiting_and_partly_its_own() -> None:
    first, second = pack_of(["a", "b"]), pack_of(["c", "b", "d", "b"], at=0.02)

    on = sent(first, second)

    assert on.provider.batches == [["a", "b"], ["c", "d"]]
    assert on.committer.is_right(second)


def test_bulk_joins_an_interactive_call_and_the_other_way_round() -> None:
    bulk = pack_of(["x"], at=0.02, lane_class=LaneClass.BULK)
    again = pack_of(["y"], at=0.3)

    on = sent(
        pack_of(["x"]), bulk, pack_of(["y"], at=0.29, lane_class=LaneClass.BULK), again,
        provider=FakeProvider(takes_s=0.2),
    )  # fmt: skip

    assert on.provider.batches == [["x"], ["y"]]
    assert on.committer.is_right(bulk)
    assert on.committer.is_right(again)


@pytest.mark.parametrize(
    "other",
    [MergeKey("m", 64), MergeKey("m", scope="team"), MergeKey("m", params='{"a":1}')],
    ids=["another size", "another scope", "other parameters"],
)
def test_nobody_joins_a_call_of_another_merge_key(other: MergeKey) -> None:
    on = sent(pack_of(["x"]), pack_of(["x"], at=0.02, merge=other))

    assert on.provider.batches == [["x"], ["x"]]


def test_an_input_that_left_while_its_twin_waited_is_joined_when_the_twins_turn_comes() -> None:
    pack = pack_of(["a", "b"], ["a"])

    on = sent(pack, places=[deployment(max_items=1)], slots=3)

    assert on.provider.batches == [["a"], ["b"]]
    assert on.committer.is_right(pack)


def test_what_has_landed_is_sent_again() -> None:
    on = sent(pack_of(["x"]), pack_of(["x"], at=0.06))

    assert on.provider.batches == [["x"], ["x"]]


def test_who_joined_a_refused_input_is_told_and_the_others_are_not() -> None:
    first = pack_of(["fine"], ["bad"], ["good"])
    bad, fine = pack_of(["z", "bad"], at=0.02), pack_of(["fine"], at=0.02)

    def objection(call: ProviderCall) -> BaseException | None:
        return RefusedInput("bad text") if "bad" in call.inputs else None

    on = sent(first, bad, fine, provider=FakeProvider(objection=objection))

    error = on.committer.reply_to(bad).error
    assert error is not None
    assert (error.kind, error.param) == ("InputRefused", "input[1]")
    assert on.committer.is_right(fine)
    assert [batch for batch in on.provider.batches if "bad" in batch][-1:] == [["bad"]]


def test_who_joins_a_call_while_it_is_being_split_gets_the_parts_answer() -> None:
    first, late = pack_of(*([f"t{n}"] for n in range(8))), pack_of(["t7", "t0"], at=0.12)

    def objection(call: ProviderCall) -> BaseException | None:
        return CapExceeded("batch is too large") if len(call.inputs) > 2 else None

    on = sent(first, late, provider=FakeProvider(objection=objection))

    assert on.committer.is_right(first)
    assert on.committer.is_right(late)
    assert sum(batch.count("t7") for batch in on.provider.batches) == 3  # 8, 4 and 2 inputs


def test_who_can_wait_longer_than_the_call_could_has_a_call_of_its_own() -> None:
    short, long = pack_of(["x"], budget_s=0.3), pack_of(["x"], at=0.1, budget_s=60.0)
    provider = FakeProvider(takes_s=10.0)

    on = sent(short, long, provider=provider)

    assert kind_of(on, short) == "DeadlineExceeded"
    assert on.committer.is_right(long)
    assert len(provider.calls) == 2


def test_who_has_no_more_time_than_the_call_shares_its_end() -> None:
    first, second = pack_of(["x"], budget_s=0.3), pack_of(["x"], at=0.1, budget_s=0.1)

    on = sent(first, second, provider=FakeProvider(takes_s=10.0))

    assert [kind_of(on, first), kind_of(on, second)] == ["DeadlineExceeded"] * 2
    assert len(on.provider.calls) == 1


def test_a_provider_that_fails_for_good_fails_whoever_joined_as_late() -> None:
    first, second = pack_of(["x"]), pack_of(["x"], at=0.02, budget_s=30.0)

    on = sent(first, second, provider=FakeProvider(objection=lambda _: ProviderUnavailable("500")))

    assert [kind_of(on, first), kind_of(on, second)] == ["ProviderFailed"] * 2


def test_a_bug_fails_whoever_joined_and_leaves_nothing_in_flight() -> None:
    first, second = pack_of(["x"]), pack_of(["x"], at=0.02)

    on = sent(first, second, provider=FakeProvider(objection=lambda _: ZeroDivisionError("x")))

    assert [kind_of(on, first), kind_of(on, second)] == ["InternalError"] * 2


def test_the_end_of_the_original_takes_nobodys_answer_away() -> None:
    first, second = pack_of(["x"]), pack_of(["x"], at=0.02)

    async def run() -> Bench:
        async with bench() as on:
            on.admit(first)
            await asyncio.sleep(0.02)
            on.admit(second)
            first.is_lost = True
            first.open[0].has_ended = True
        return on

    on = in_virtual_time(run())

    assert on.committer.is_right(second)


def test_a_pack_with_a_joined_item_counts_as_begun() -> None:
    second = pack_of(["x", "y"], at=0.02)

    async def run() -> None:
        async with bench(deployment(max_items=1), slots=1) as on:
            on.admit(pack_of(["x"]))
            await asyncio.sleep(0.02)
            on.admit(second)
            assert second.is_begun, "it is not to be handed back as untouched"

    in_virtual_time(run())


def test_only_so_many_wait_outside_the_queue() -> None:
    flights = Flights(max_joined=1)
    flight = Flight(flights, MERGE, ["x"])
    items = [items_of(pack_of(["x"]).open[0])[0] for _ in range(2)]

    assert [flights.join(item) for item in items] == [True, False]
    assert flight.landed(["x"]) == ([items[0]], [0])
    Flight(flights, MERGE, ["x"])
    assert flights.join(items[1])


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5)),
        min_size=1,
        max_size=12,
    ),
    st.sets(st.sampled_from("abcdef"), max_size=2),
    st.integers(1, 4),
)
def test_everybody_gets_their_own_vectors_whoever_joins_whom(
    arrivals: list[tuple[int, list[str]]], bad: set[str], max_items: int
) -> None:
    packs = [pack_of(list(texts), at=at / 100) for at, texts in sorted(arrivals)]

    def objection(call: ProviderCall) -> BaseException | None:
        return RefusedInput("bad text") if bad.intersection(map(str, call.inputs)) else None

    on = sent(
        *packs,
        places=[deployment(max_items=max_items)],
        provider=FakeProvider(objection=objection, total_tokens=11),
        slots=2,
    )

    for pack, (_, texts) in zip(packs, sorted(arrivals), strict=True):
        assert kind_of(on, pack) == ("InputRefused" if bad & set(texts) else "")
        assert on.committer.is_right(pack) is not bool(bad & set(texts))
    records = [ending.record for ending in on.committer.endings] + on.committer.wasted
    answered = [batch for batch in on.provider.batches if not bad.intersection(map(str, batch))]
    assert sum(record.paid for record in records) == 11 * len(answered)
    assert all(r.used + r.waste == r.paid + r.saved for r in records)
