"""How lines of a batch end, whatever their lane says of them, and what their tries cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from embedpool_shared.embedding.fitting import Fitted
from embedpool_shared.errors import (
    EmbedPoolError,
    InputRefused,
    NoKeys,
    ProviderFailed,
)
from embedpool_shared.jobs import CallTrace, JobReply, LaneClass, LedgerRecord, MergeKey
from embedpool_worker.accounting import FENCED
from embedpool_worker.bulk.again import MAX_PROVIDER_FAILURES
from embedpool_worker.bulk.batch_lines import BatchLine, Entry, entry_of
from embedpool_worker.bulk.feeding import TRY_S, Feeder
from embedpool_worker.bulk.line_reader import LineJob
from embedpool_worker.bulk.window import Window
from embedpool_worker.endings import answered, failed
from embedpool_worker.held import HeldJob, HeldPack
from support.bulk_records import batch_record_of
from support.virtual_time import in_virtual_time

T = TypeVar("T")
BATCH = batch_record_of(account="key:k", payers=("team:t",))
VECTOR = b"\0\0\0\0" * 2
TRACE = CallTrace("m", "openai", "d", items=1, requests=1, tries=1, provider_ms=1.0)


@dataclass
class FakeLane:
    """Holds what it is fed; a test says how it ends."""

    packs: list[HeldPack] = field(default_factory=list)
    wasted: list[LedgerRecord] = field(default_factory=list)
    withdrawn: int = 0

    def feed(self, pack: HeldPack) -> None:
        self.packs.append(pack)

    async def has_room(self) -> None:
        """There is always room."""

    def withdraw(self) -> None:
        self.withdrawn += 1

    def booked(self) -> None:
        """Nobody rolls up here."""

    def waste(self, record: LedgerRecord) -> None:
        self.wasted.append(record)

    def job(self, number: int) -> HeldJob:
        """The last try of a line."""
        return next(p.open[number] for p in reversed(self.packs) if number in p.open)

    def answer(self, number: int, *, paid: int = 3) -> None:
        job = self._take(number)
        job.vectors, job.missing = [VECTOR], 0
        job.used_tokens, job.paid_tokens = 3, paid
        ending = answered(job, 2, TRACE, began_at=0.0)
        assert job.pack.home is not None
        job.pack.home(job, ending.reply, ending.record)

    def fail(self, number: int, error: EmbedPoolError, *, paid: int = 0) -> None:
        job = self._take(number)
        job.paid_tokens = paid
        ending = failed(job, error)
        assert job.pack.home is not None
        job.pack.home(job, ending.reply, ending.record)

    def _take(self, number: int) -> HeldJob:
        """As the committer does before an ending goes home."""
        job = self.job(number)
        job.has_ended = True
        job.pack.open.pop(number)
        return job


@dataclass
class Bench:
    """A feeder between a fake lane and a real window."""

    lane: FakeLane
    window: Window[BatchLine]
    feeder: Feeder
    entries: list[Entry]
    changes: list[float]

    @property
    def first(self) -> BatchLine:
        return self.entries[0].line


def line(number: int) -> LineJob:
    merge = MergeKey("m")
    fitted = Fitted(merge, [f"text {number}"], None)
    return LineJob(number, f"id-{number}", fitted, True, "m", 6, 10 * number, "m", 2)


def fed(
    test: Callable[[Bench], Awaitable[T]], *, lines: int = 2, expires_in_s: float = 86_400.0
) -> T:
    """Run a test on so many lines that were just fed."""

    async def run() -> T:
        lane, window, changes = FakeLane(), Window[BatchLine](), list[float]()
        loop = asyncio.get_running_loop()
        feeder = Feeder(
            lane, BATCH, window, expires_at=loop.time() + expires_in_s,
            on_change=lambda: changes.append(loop.time()),
        )  # fmt: skip
        entries = [entry_of(line(n), begins_at=10 * (n - 1)) for n in range(1, lines + 1)]
        for entry in entries:
            window.enter(entry, now=loop.time())
        feeder.feed(entries)
        return await test(Bench(lane, window, feeder, entries, changes))

    return in_virtual_time(run())


def on_bench(test: Callable[[Bench], Any]) -> None:
    async def run(bench: Bench) -> None:
        test(bench)

    fed(run)


def test_lines_travel_in_one_direct_pack_of_the_bulk_class() -> None:
    def check(bench: Bench) -> None:
        (pack,) = bench.lane.packs
        assert (pack.lane_class, pack.pack_id, pack.numbers) == (LaneClass.BULK, "batch_1", (1, 2))
        job = pack.open[1].job
        assert (job.account, job.price_per_token_pico_usd, job.inputs) == ("key:k", 2, ["text 1"])
        assert job.bill is not None
        assert job.bill.accounts == ["team:t"]

    on_bench(check)


def test_an_answered_line_has_its_reply_and_its_record() -> None:
    def check(bench: Bench) -> None:
        bench.lane.answer(1)

        reply = bench.first.reply
        assert isinstance(reply, JobReply)
        assert (reply.vectors, reply.tokens) == (VECTOR, 3)
        assert [(one.used, one.requests) for one in bench.first.records] == [(3, 1)]
        assert bench.first.outcome == "answered"
        assert bench.entries[0].has_ended
        assert bench.feeder.dims == 2
        assert len(bench.changes) == 1

    on_bench(check)


def test_a_line_the_provider_refuses_has_failed() -> None:
    def check(bench: Bench) -> None:
        bench.lane.fail(1, InputRefused("too long", param="input[0]"))

        error = bench.first.error
        assert isinstance(error, InputRefused)
        assert error.param == "input[0]"
        assert bench.first.outcome == "failed"

    on_bench(check)


def test_a_line_nobody_can_answer_now_rests_and_is_fed_again() -> None:
    async def check(bench: Bench) -> None:
        bench.lane.fail(1, NoKeys("all cool", retry_after_s=8.0))
        assert not bench.entries[0].has_ended
        assert bench.window.rested(now=asyncio.get_running_loop().time() + 7.9) == []

        await asyncio.sleep(8.0)
        again = bench.window.rested(now=asyncio.get_running_loop().time())
        bench.feeder.feed(again)
        bench.lane.answer(1)

        assert again == [bench.entries[0]]
        assert again[0].tries == 2
        assert [one.requests for one in bench.first.records] == [1]

    fed(check)


def test_what_a_vain_try_cost_is_kept_with_the_line() -> None:
    def check(bench: Bench) -> None:
        bench.lane.fail(1, ProviderFailed("broken"), paid=5)
        bench.feeder.feed(bench.window.rested(now=float("inf")))
        bench.lane.answer(1)

        kept = [(one.requests, one.used, one.paid, one.waste) for one in bench.first.records]
        assert kept == [(0, 0, 5, 5), (1, 3, 3, 0)]

    on_bench(check)


def test_a_provider_that_keeps_failing_fails_the_line() -> None:
    def check(bench: Bench) -> None:
        for number in range(MAX_PROVIDER_FAILURES):
            if number:
                bench.feeder.feed(bench.window.rested(now=float("inf")))
            bench.lane.fail(1, ProviderFailed("broken"))

        assert isinstance(bench.first.error, ProviderFailed)
        assert bench.entries[0].tries == MAX_PROVIDER_FAILURES
        assert [one.requests for one in bench.first.records] == [1]

    on_bench(check)


@pytest.mark.parametrize("left_s", [86_400.0, 20.0])
def test_no_call_is_ended_because_its_batch_expires_meanwhile(left_s: float) -> None:
    async def budget(bench: Bench) -> float:
        return bench.lane.job(1).deadline_at - asyncio.get_running_loop().time()

    assert fed(budget, expires_in_s=left_s) == pytest.approx(TRY_S, abs=0.01)


def test_nothing_rests_longer_than_the_batch_lives() -> None:
    async def next_try(bench: Bench) -> float | None:
        bench.lane.fail(1, NoKeys("all cool", retry_after_s=50.0))
        (at, _) = bench.window._resting[0]
        return at - asyncio.get_running_loop().time()

    assert fed(next_try, expires_in_s=3.0) == pytest.approx(3.0)


def test_once_cut_off_what_waits_is_cancelled_and_what_is_answered_counts() -> None:
    def check(bench: Bench) -> None:
        bench.feeder.cut_off("batch_cancelled")
        assert bench.lane.withdrawn == 1
        assert bench.lane.job(1).is_cancelled

        bench.lane.answer(1)
        bench.lane.fail(2, NoKeys("nobody"))

        assert bench.first.is_answered
        second = bench.entries[1].line
        assert (second.cut, second.outcome) == ("batch_cancelled", "cancelled")

    on_bench(check)


def test_once_cut_off_an_error_about_the_line_itself_is_still_told() -> None:
    def check(bench: Bench) -> None:
        bench.feeder.cut_off("batch_expired")
        bench.lane.fail(1, InputRefused("too long"))

        assert isinstance(bench.first.error, InputRefused)
        assert bench.first.cut == ""

    on_bench(check)


def test_hanging_up_ends_every_line_and_what_still_comes_is_waste() -> None:
    def check(bench: Bench) -> None:
        late = bench.lane.job(1)
        bench.feeder.cut_off("batch_expired")
        bench.feeder.hang_up()

        assert [entry.line.cut for entry in bench.entries] == ["batch_expired"] * 2
        assert late.has_ended
        assert late.pack.open == {}
        assert bench.feeder.under_way == 0

    on_bench(check)


def test_lines_at_rest_end_with_the_refusal() -> None:
    def check(bench: Bench) -> None:
        refusal = InputRefused("the key was blocked")
        bench.lane.fail(1, NoKeys("nobody"))
        bench.feeder.refusal = refusal
        assert not bench.feeder.sends
        bench.feeder.end_resting(bench.window.rested(now=float("inf")))

        assert bench.first.error is refusal

    on_bench(check)


def test_after_the_run_is_over_everything_paid_is_waste_and_no_line_changes() -> None:
    def check(bench: Bench) -> None:
        bench.lane.answer(1, paid=3)
        bench.feeder.abandon(bench.window.left)
        bench.lane.answer(2, paid=4)

        assert [(one.reason, one.waste, one.used) for one in bench.lane.wasted] == [
            (FENCED, 3, 0),
            (FENCED, 4, 0),
        ]
        assert not bench.entries[1].has_ended
        assert bench.lane.withdrawn == 1

    on_bench(check)


@pytest.mark.parametrize("is_fed_again", [True, False], ids=["under way", "at rest"])
def test_what_a_vain_try_cost_is_waste_where_the_run_is_over_before_the_next_one_ends(
    is_fed_again: bool,
) -> None:
    def check(bench: Bench) -> None:
        bench.lane.fail(1, ProviderFailed("broken"), paid=5)
        if is_fed_again:
            bench.feeder.feed(bench.window.rested(now=float("inf")))
        bench.feeder.abandon(bench.window.left)
        if is_fed_again:
            bench.lane.answer(1, paid=4)

        assert [one.waste for one in bench.lane.wasted] == [5, 4][: 1 + is_fed_again]
        assert not any(one.used for one in bench.lane.wasted)

    on_bench(check)
