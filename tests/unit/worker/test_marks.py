"""The two bits per job, and what is believed while they cannot be read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.names import Names
from embedpool_worker.held import HeldPack
from embedpool_worker.marks import Marks, apply_marks
from support.fake_line import FakeLine, Told
from support.held import pack_of
from support.virtual_time import in_virtual_time

LANE = Names().lane("m")


def bitmap(committed: set[int], cancelled: set[int]) -> bytes:
    """Set bits as Redis' SETBIT does: the first one is the highest of the first byte."""
    bits = bytearray(64)
    for bit in [2 * n for n in committed] + [2 * n + 1 for n in cancelled]:
        bits[bit // 8] |= 0x80 >> bit % 8
    return bytes(bits).rstrip(b"\0")


@given(st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)), st.integers(1, 20))
def test_marks_say_who_was_answered_elsewhere_and_who_has_gone(
    committed: set[int], cancelled: set[int], size: int
) -> None:
    pack = pack_of(*([f"t{n}"] for n in range(size)))
    jobs = dict(pack.open)

    apply_marks(pack, bitmap(committed, cancelled))

    assert {n for n, job in jobs.items() if job.has_ended} == committed & jobs.keys()
    assert pack.open.keys() == jobs.keys() - committed
    assert {n for n, job in pack.open.items() if job.is_cancelled} == (
        cancelled - committed
    ) & jobs.keys()
    assert pack.was_split is bool(committed & jobs.keys())


def test_a_job_that_we_ended_ourselves_waits_for_its_own_commit() -> None:
    pack = pack_of(["a"], ["b"])
    pack.open[0].has_ended = True

    apply_marks(pack, bitmap({0}, set()))

    assert list(pack.open) == [0, 1]
    assert not pack.was_split


def read(line: FakeLine, *packs: HeldPack) -> None:
    async def run() -> None:
        any_line: Any = line
        await asyncio.sleep(3.0)
        await Marks(any_line, LANE).read(packs)

    in_virtual_time(run())


def test_all_packs_are_asked_for_at_once() -> None:
    first, second = pack_of(["a"], ["b"], pack_id="p1"), pack_of(["c"], pack_id="p2")
    line = FakeLine(lambda _: [bitmap(set(), {1}), None])

    read(line, first, second)

    (told,) = line.told
    assert (told.what, told.arguments) == ("MGET", [LANE.part("p1"), LANE.part("p2")])
    assert [job.is_cancelled for job in first.open.values()] == [False, True]
    assert not second.open[0].is_cancelled


def test_what_was_read_is_as_old_as_the_question() -> None:
    pack = pack_of(["a"])

    read(FakeLine(lambda _: [None], takes_s=0.5), pack)

    assert pack.checked_at == 3.0


def test_while_redis_is_away_everything_stays_as_it_is() -> None:
    pack = pack_of(["a"])

    read(FakeLine(is_away=True), pack)

    assert pack.checked_at == 0.0
    assert list(pack.open) == [0]


def test_two_readers_take_turns_on_the_line() -> None:
    busy = 0

    async def one_at_a_time() -> list[None]:
        nonlocal busy
        busy += 1
        assert busy == 1
        await asyncio.sleep(0.1)
        busy -= 1
        return [None]

    def answer(_: Told) -> Any:
        return one_at_a_time()

    async def run() -> None:
        line: Any = FakeLine(answer)
        marks = Marks(line, LANE)
        await asyncio.gather(marks.read([pack_of(["a"])]), marks.read([pack_of(["b"])]))
        assert asyncio.get_running_loop().time() == pytest.approx(0.2)

    in_virtual_time(run())
