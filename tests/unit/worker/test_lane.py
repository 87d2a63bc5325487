"""Who leaves when, on virtual time: the promises at the head of `lane` and of `permits`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import KeyRejected, ProviderUnavailable
from embedpool_shared.jobs import Input, LaneClass, MergeKey
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import HeldPack
from embedpool_worker.keyring import KeyHealth
from support.held import MERGE, pack_of
from support.lane_bench import (
    BULK_LINGER_S,
    LINGER_S,
    Bench,
    FakeProvider,
    bench,
    deployment,
    vector_of,
)
from support.virtual_time import in_virtual_time

BULK = LaneClass.BULK


def texts(start: int, stop: int) -> list[Input]:
    return [f"text {n}" for n in range(start, stop)]


def capped(max_items: int) -> Deployment:
    return deployment(max_items=max_items)


def now() -> float:
    return asyncio.get_running_loop().time()


async def arrive(on: Bench, *jobs: Sequence[Input], lane_class: LaneClass = LaneClass.INTERACTIVE,
                 merge: MergeKey = MERGE, budget_s: float = 60.0) -> HeldPack:  # fmt: skip
    return on.admit(pack_of(*jobs, at=now(), lane_class=lane_class, merge=merge, budget_s=budget_s))


# When a batch leaves


def test_a_lone_item_leaves_at_once() -> None:
    async def run() -> Bench:
        async with bench() as on:
            await asyncio.sleep(1.0)
            await arrive(on, ["x"])
        return on

    on = in_virtual_time(run())

    assert on.provider.times == [1.0]
    assert on.committer.ended_at == [pytest.approx(1.05)]
    assert not on.marks.reads


def test_items_that_arrive_together_leave_together() -> None:
    async def run() -> Bench:
        async with bench() as on:
            await arrive(on, ["a"], ["b"])
            await arrive(on, ["c"])
        return on

    assert in_virtual_time(run()).provider.batches == [["a", "b", "c"]]


def test_a_batch_due_earlier_waits_no_longer_than_its_oldest_items_linger() -> None:
    async def run() -> Bench:
        async with bench() as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.020)
            await arrive(on, ["a"])
            await asyncio.sleep(LINGER_S / 2)
            await arrive(on, ["b"])  # must not extend the wait
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["a", "b"]]
    assert on.provider.times[1] == pytest.approx(0.020 + LINGER_S, abs=1e-5)


def test_items_that_arrive_just_before_a_call_returns_leave_with_its_return() -> None:
    async def run() -> Bench:
        async with bench() as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.045)
            await arrive(on, ["a"])
            await asyncio.sleep(0.001)
            await arrive(on, ["b"])
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["a", "b"]]
    assert on.provider.times[1] == pytest.approx(0.050, abs=1e-5)


def test_a_full_batch_does_not_linger() -> None:
    async def run() -> Bench:
        async with bench(capped(2)) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.001)
            await arrive(on, ["a"], ["b"])
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["a", "b"]]
    assert on.provider.times[1] == pytest.approx(0.001, abs=1e-5)


def test_bulk_lingers_longer() -> None:
    async def run() -> Bench:
        async with bench() as on:
            await arrive(on, ["first"], lane_class=BULK)
            await asyncio.sleep(0.001)
            await arrive(on, ["a"], lane_class=BULK)
        return on

    on = in_virtual_time(run())

    assert on.provider.times[1] == pytest.approx(0.001 + BULK_LINGER_S, abs=1e-5)


def test_the_batch_grows_while_it_waits_for_a_permit() -> None:
    async def run() -> Bench:
        async with bench(slots=1) as on:
            await arrive(on, ["first"])
            for n in range(4):
                await asyncio.sleep(0.012)
                await arrive(on, [f"later {n}"])
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"], [f"later {n}" for n in range(4)]]
    assert on.provider.times[1] == pytest.approx(0.050, abs=1e-5)


def test_at_most_as_many_calls_as_slots_are_in_flight() -> None:
    async def run() -> Bench:
        async with bench(capped(4), slots=3) as on:
            await arrive(on, *([text] for text in texts(0, 60)))
        return on

    on = in_virtual_time(run())

    assert on.provider.most_in_flight == 3
    assert len(on.provider.calls) == 15
    assert on.permits.keys_of(on.deployments)[0].in_flight == 0


# What shares a batch


def test_no_call_mixes_merge_keys() -> None:
    merges = [
        MergeKey("m"),
        MergeKey("m", 64),
        MergeKey("m", params='{"task":"x"}'),
        MergeKey("m", scope="team"),
        MergeKey("n"),
        MergeKey("m", provider="azure"),
    ]

    async def run() -> Bench:
        async with bench(slots=2) as on:
            for round_ in range(3):
                for place, merge in enumerate(merges):
                    await arrive(on, [f"{place} {round_}", "same text"], merge=merge)
                await asyncio.sleep(0.004)
        return on

    on = in_virtual_time(run())

    owners = [{text.split()[0] for text in map(str, batch)} for batch in on.provider.batches]
    assert all(len(those - {"same"}) == 1 for those in owners)
    assert sorted(map(str, chain(*on.provider.batches))).count("same text") >= len(merges)
    assert on.committer.kinds() == [""] * 18


def test_bulk_rides_along_when_it_costs_little() -> None:
    async def run() -> Bench:
        async with bench(slots=1) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.001)
            await arrive(on, ["b" * 3], lane_class=BULK)
            await arrive(on, ["i" * 300])
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["i" * 300, "b" * 3]]


def test_bulk_that_rode_along_while_it_lingered_leaves_no_loop_behind() -> None:
    async def run() -> Bench:
        async with bench(provider=FakeProvider(takes_s=1.0)) as on:
            await arrive(on, ["first"], lane_class=BULK)
            await asyncio.sleep(0.001)
            await arrive(on, ["b" * 3], lane_class=BULK)
            await arrive(on, ["i" * 300])
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["i" * 300, "b" * 3]]
    assert on.committer.kinds() == [""] * 3


def test_bulk_of_another_merge_key_never_rides_along() -> None:
    async def run() -> Bench:
        async with bench(slots=1) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.001)
            await arrive(on, ["b"], lane_class=BULK, merge=MergeKey("m", 64))
            await arrive(on, ["i" * 300])
        return on

    assert in_virtual_time(run()).provider.batches == [["first"], ["i" * 300], ["b"]]


def test_interactive_never_rides_along_with_bulk() -> None:
    async def run() -> Bench:
        async with bench() as on:
            await arrive(on, ["b" * 300], lane_class=BULK)
            await asyncio.sleep(0.001)
            await arrive(on, ["i"])
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["b" * 300], ["i"]]
    assert on.provider.times[1] == pytest.approx(0.001, abs=1e-5)


def test_bulk_does_not_block_interactive() -> None:
    async def run() -> tuple[Bench, HeldPack]:
        async with bench(capped(1), slots=4) as on:
            await arrive(on, *([text] for text in texts(0, 40)), lane_class=BULK)
            await asyncio.sleep(0.010)
            lone = await arrive(on, ["lone"])
        return on, lone

    on, _ = in_virtual_time(run())

    assert on.provider.times[on.provider.batches.index(["lone"])] == pytest.approx(0.010, abs=1e-5)
    assert on.committer.kinds() == [""] * 41


def test_bulk_does_not_starve_under_interactive_load() -> None:
    async def run() -> Bench:
        async with bench(capped(1), slots=1) as on:
            await arrive(on, *([f"i{n}"] for n in range(60)))
            await arrive(on, *([f"b{n}"] for n in range(6)), lane_class=BULK)
        return on

    batches = in_virtual_time(run()).provider.batches

    first_forty = [str(batch[0])[0] for batch in batches[:40]]
    assert 3 <= first_forty.count("b") <= 4


# What never leaves


def test_an_item_past_its_deadline_is_never_sent() -> None:
    async def run() -> tuple[Bench, HeldPack, HeldPack]:
        async with bench(slots=1, provider=FakeProvider(takes_s=2.0)) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.5)
            late = await arrive(on, ["late"], budget_s=1.0)
            fine = await arrive(on, ["fine"])
        return on, late, fine

    on, late, fine = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["fine"]]
    error = on.committer.reply_to(late).error
    assert error is not None
    assert (error.kind, error.code) == ("DeadlineExceeded", "timeout")
    assert on.committer.is_right(fine)


def test_only_expired_items_wait_gives_the_permit_back() -> None:
    async def run() -> Bench:
        async with bench(slots=1, provider=FakeProvider(takes_s=2.0)) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.5)
            await arrive(on, ["late"], budget_s=1.0)
        return on

    on = in_virtual_time(run())

    assert on.committer.kinds() == ["", "DeadlineExceeded"]
    assert on.permits.keys_of(on.deployments)[0].in_flight == 0


def test_a_cancelled_job_is_dropped_and_its_neighbours_keep_their_vectors() -> None:
    async def run() -> tuple[Bench, HeldPack]:
        async with bench(slots=1, provider=FakeProvider(takes_s=0.2)) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.01)
            pack = await arrive(on, ["a0", "a1"], ["gone"], ["b0", "b1"])
            on.marks.cancelled.add((pack.pack_id, 1))
        return on, pack

    on, pack = in_virtual_time(run())

    assert on.provider.batches == [["first"], ["a0", "a1", "b0", "b1"]]
    assert on.committer.reply_to(pack, 0).vectors == vector_of("a0") + vector_of("a1")
    assert on.committer.reply_to(pack, 2).vectors == vector_of("b0") + vector_of("b1")
    assert on.committer.reply_to(pack, 1).error is not None


def test_marks_are_asked_for_once_items_are_no_longer_fresh() -> None:
    async def run() -> tuple[Bench, HeldPack, HeldPack]:
        async with bench(slots=1, provider=FakeProvider(takes_s=0.2)) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.01)
            old = await arrive(on, ["old"])
            await asyncio.sleep(0.18)
            fresh = await arrive(on, ["fresh"])
        return on, old, fresh

    on, old, _ = in_virtual_time(run())

    assert on.marks.reads == [[old.pack_id]]


def test_a_model_nobody_serves_is_said_so_at_once() -> None:
    async def run() -> Bench:
        async with bench(deployments_of=lambda _: ()) as on:
            await arrive(on, ["a"], ["b"])
        return on

    on = in_virtual_time(run())

    assert on.committer.kinds() == ["ModelNotFound", "ModelNotFound"]
    assert not on.provider.calls


def test_a_lane_that_was_cleared_sends_nothing_more() -> None:
    async def run() -> Bench:
        async with bench(slots=1) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.001)
            waiting = await arrive(on, ["waits"])
            await asyncio.sleep(0.020)  # its loop waits for a permit now
            on.lane.clear()
            on.lane.clear()
            await on.lane.quiet()
            assert now() == pytest.approx(0.050, abs=1e-5)
            assert not waiting.is_begun
            on.admit(pack_of(["after"], at=now()))
        return on

    on = in_virtual_time(run())

    assert on.provider.batches == [["first"]]
    assert on.permits.keys_of(on.deployments)[0].in_flight == 0


def test_a_lane_cleared_while_items_linger_sends_nothing_more() -> None:
    async def run() -> Bench:
        async with bench(provider=FakeProvider(takes_s=1.0)) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.001)
            await arrive(on, ["lingers"])
            await asyncio.sleep(LINGER_S / 2)
            on.lane.clear()
        return on

    assert in_virtual_time(run()).provider.batches == [["first"]]


def test_two_jobs_of_one_pack_under_different_merge_keys_wait_apart() -> None:
    async def run() -> tuple[Bench, HeldPack]:
        async with bench() as on:
            pack = pack_of(["a"], ["b"], ["c"], at=now())
            pack.open[1].merge = MergeKey("m", 64)
            on.admit(pack)
        return on, pack

    on, pack = in_virtual_time(run())

    assert sorted(map(str, on.provider.batches)) == ["['a', 'c']", "['b']"]
    assert on.committer.is_right(pack)


# No key


def test_no_usable_key_ends_everything_that_waits() -> None:
    async def run() -> Bench:
        provider = FakeProvider(objection=lambda _: KeyRejected("who?"))
        async with bench(deployment("k"), slots=1, provider=provider) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.020)
            await arrive(on, ["a"], ["b"])
            await asyncio.sleep(0.100)
            await arrive(on, ["c"])
        return on

    on = in_virtual_time(run())

    assert on.committer.kinds() == ["NoKeys"] * 4
    assert on.provider.batches == [["first"]]
    errors = [ending.reply.error for ending in on.committer.endings]
    assert {error.message for error in errors if error} == {
        "[openai] No available keys for provider 'openai'"
    }


def test_whoever_can_wait_for_a_resting_key_does_and_the_others_are_told() -> None:
    async def run() -> tuple[Bench, HeldPack, HeldPack]:
        async with bench(deployment("k"), slots=1) as on:
            (key,) = on.permits.keys_of(on.deployments)
            key.take(LaneClass.INTERACTIVE)
            short = await arrive(on, ["short"], budget_s=5.0)
            await asyncio.sleep(0.020)
            long = await arrive(on, ["long"], budget_s=60.0)
            await asyncio.sleep(0.020)
            key.cool(10.0)
            key.give_back(LaneClass.INTERACTIVE)
            on.permits.refuse_unserved()
        return on, short, long

    on, short, long = in_virtual_time(run())

    error = on.committer.reply_to(short).error
    assert error is not None
    assert error.kind == "NoKeys"
    assert error.retry_after_s == pytest.approx(10.0 - 0.040, abs=1e-3)
    assert on.committer.is_right(long)
    assert on.provider.times == [pytest.approx(10.0, abs=1e-5)]


# Room


def test_a_lane_has_room_for_two_full_calls() -> None:
    async def run() -> None:
        async with bench(capped(4), slots=1, provider=FakeProvider(takes_s=1.0)) as on:
            await asyncio.wait_for(on.lane.has_room(LaneClass.INTERACTIVE), 0.001)
            await arrive(on, *([text] for text in texts(0, 4)))
            await asyncio.sleep(0.001)
            await arrive(on, *([text] for text in texts(4, 12)))
            assert now() < 0.5

            await on.lane.has_room(LaneClass.INTERACTIVE)

            assert now() == pytest.approx(1.0, abs=1e-3)
            await asyncio.wait_for(on.lane.has_room(BULK), 0.001)

    in_virtual_time(run())


def test_a_lane_never_holds_more_than_it_may() -> None:
    async def run() -> None:
        async with bench(max_waiting_items=2, provider=FakeProvider(takes_s=1.0), slots=1) as on:
            await arrive(on, ["first"])
            await asyncio.sleep(0.001)
            await arrive(on, ["a"], ["b"])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(on.lane.has_room(LaneClass.INTERACTIVE), 0.5)

    in_virtual_time(run())


def test_there_is_room_again_after_everything_was_refused() -> None:
    async def run() -> None:
        provider = FakeProvider(objection=lambda _: KeyRejected("who?"))
        async with bench(deployment("k", max_items=1), slots=1, provider=provider) as on:
            await arrive(on, *([text] for text in texts(0, 9)))
            await asyncio.wait_for(on.lane.has_room(LaneClass.INTERACTIVE), 1.0)

    in_virtual_time(run())


def test_there_is_room_again_after_bulk_rode_along() -> None:
    async def run() -> None:
        async with bench(max_waiting_items=1) as on:
            await arrive(on, ["first"], lane_class=BULK)
            await asyncio.sleep(0.001)
            await arrive(on, ["b"], lane_class=BULK)  # lingers
            await arrive(on, ["i" * 300])
        assert on.provider.batches == [["first"], ["i" * 300, "b"]]
        await asyncio.wait_for(on.lane.has_room(BULK), 0.001)

    in_virtual_time(run())


# Everything together


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 12), min_size=1, max_size=6),  # few texts, so many duplicates
            st.sampled_from(LaneClass),
            st.sampled_from([MergeKey("m"), MergeKey("m", 64)]),
            st.floats(0, 0.06),
        ),
        max_size=30,
    ),
    st.integers(1, 7),
    st.integers(1, 4),
    st.sets(st.integers(0, 30), max_size=4),
)
def test_every_job_gets_its_own_vectors_whatever_arrives_when(
    arrivals: list[tuple[list[int], LaneClass, MergeKey, float]],
    max_items: int,
    slots: int,
    failing: set[int],
) -> None:
    provider = FakeProvider()
    provider.objection = lambda _: (
        ProviderUnavailable("hiccup") if len(provider.calls) in failing else None
    )

    async def run() -> tuple[Bench, list[HeldPack]]:
        async with bench(capped(max_items), slots=slots, provider=provider) as on:
            packs = []
            for numbers, lane_class, merge, pause_s in arrivals:
                await asyncio.sleep(pause_s)
                job: list[Input] = [f"{merge.dimensions} {n}" for n in numbers]
                packs.append(await arrive(on, job, lane_class=lane_class, merge=merge))
        return on, packs

    on, packs = in_virtual_time(run())

    kinds = on.committer.kinds()
    assert len(kinds) == len(packs)
    assert set(kinds) <= {"", "ProviderFailed"}
    assert all(
        on.committer.is_right(pack) for pack in packs if on.committer.reply_to(pack).error is None
    )
    assert all(len(batch) <= max_items for batch in provider.batches)
    assert all(len({str(text).split()[0] for text in b}) == 1 for b in provider.batches)
    assert provider.most_in_flight <= slots
    assert all(is_idle(key) for key in on.permits.keys_of(on.deployments))


def is_idle(key: KeyHealth) -> bool:
    return key.in_flight == 0 and key.in_flight_bulk == 0
