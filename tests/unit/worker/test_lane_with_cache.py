"""A lane whose inputs may be known: hits end at once, the rest is sent, nothing is mixed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.cached_vectors import CachedVector
from embedpool_worker.held import HeldJob, HeldPack
from embedpool_worker.recall import fill_in
from support.held import pack_of
from support.lane_bench import DIMS, Bench, FakeProvider, bench, deployment, vector_of
from support.virtual_time import in_virtual_time

Then = Callable[[HeldPack, list[tuple[HeldJob, str]]], None]


class Knowing:
    """A recall that knows these texts at once; `of` may know them wrongly."""

    def __init__(self, *texts: str, of: Callable[[str], bytes] = vector_of) -> None:
        self._known = {text: CachedVector(of(text), 5, "theirs") for text in texts}

    def look_up(self, pack: HeldPack, _: object, then: Then) -> None:
        complete = []
        for job in pack.open.values():
            found = {
                n: self._known[str(given)]
                for n, given in enumerate(job.job.inputs)
                if given in self._known
            }
            fill_in(job, found)
            if not job.missing:
                complete.append((job, "theirs"))
        then(pack, complete)


def sent(*packs: HeldPack, recall: Any, places: Any = (), **more: Any) -> Bench:
    """Admit these packs to a lane with this recall, and wait for all that follows."""

    async def run() -> Bench:
        async with bench(*places, **more) as on:
            on.lane.recall = recall
            for pack in packs:
                on.admit(pack)
        return on

    return in_virtual_time(run())


def test_a_job_that_is_known_ends_at_once_and_costs_nothing() -> None:
    pack = pack_of(["a", "b"])

    on = sent(pack, recall=Knowing("a", "b"))

    assert not on.provider.calls
    assert on.committer.is_right(pack)
    assert on.committer.ended_at == [0.0]
    (ending,) = on.committer.endings
    record = ending.record
    assert (record.used, record.paid, record.saved, record.cached) == (10, 0, 10, 10)
    assert (ending.reply.cached, record.provider) == (2, "")
    assert pack.is_begun, "it is not to be handed back as untouched"


def test_what_is_not_known_is_sent_and_told_apart_in_the_bill() -> None:
    pack = pack_of(["a", "x", "b", "y"])

    on = sent(pack, recall=Knowing("a", "b"), provider=FakeProvider(total_tokens=8))

    assert on.provider.batches == [["x", "y"]]
    assert on.committer.is_right(pack)
    (ending,) = on.committer.endings
    record = ending.record
    assert (record.used, record.paid, record.saved, record.cached) == (18, 8, 10, 10)
    assert ending.reply.cached == 2


def test_cached_vectors_of_another_length_are_asked_for_anew() -> None:
    pack = pack_of(["a", "x", "b"])

    on = sent(
        pack,
        recall=Knowing("a", "b", of=lambda _: b"1234"),
        provider=FakeProvider(total_tokens=6),
    )

    assert on.provider.batches == [["x"], ["a", "b"]]
    assert on.committer.is_right(pack)
    (ending,) = on.committer.endings
    record = ending.record
    assert ending.reply.cached == 0
    assert (record.used, record.paid, record.saved, record.cached) == (12, 12, 0, 0)


def test_a_pack_handed_back_while_it_was_looked_up_is_left_alone() -> None:
    asked: list[tuple[HeldPack, Then]] = []

    class Slow:
        def look_up(self, pack: HeldPack, _: object, then: Then) -> None:
            asked.append((pack, then))

    pack = pack_of(["a"])

    async def run() -> Bench:
        async with bench() as on:
            recall: Any = Slow()
            on.lane.recall = recall
            on.admit(pack)
            pack.is_lost = True
            ((_, then),) = asked
            then(pack, [(pack.open[0], "theirs")])
        return on

    on = in_virtual_time(run())

    assert not on.provider.calls
    assert not on.committer.endings


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6), min_size=1, max_size=8),
    st.sets(st.sampled_from("abcdef")),
    st.integers(1, 4),
    st.booleans(),
)
def test_everybody_gets_their_own_vectors_whatever_is_known(
    jobs: list[list[str]], known: set[str], max_items: int, is_stale: bool
) -> None:
    packs = [pack_of(*([list(job)] * 2)) for job in jobs]
    of: Callable[[str], bytes] = (lambda _: b"stale---stale---") if is_stale else vector_of

    on = sent(
        *packs,
        recall=Knowing(*known, of=of),
        places=[deployment(max_items=max_items)],
        provider=FakeProvider(total_tokens=7),
        slots=2,
    )

    for pack, job in zip(packs, jobs, strict=True):
        for number in (0, 1):
            reply = on.committer.reply_to(pack, number)
            is_known = known.issuperset(job)
            right = b"".join((of if is_known else vector_of)(text) for text in job)
            assert reply.error is None
            assert reply.vectors == right
            assert reply.dims == (4 if is_known and is_stale else DIMS)
    records = [ending.record for ending in on.committer.endings]
    assert all(r.used + r.waste == r.paid + r.saved for r in records)
