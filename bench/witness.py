"""What metrics and log cost, in CPU, of each request an api answers and each call a worker makes.

Everything is told to the real objects, lines go through the real writer to /dev/null, and its
thread counts. The cases take turns for many rounds, so that a busy machine is busy for all of them;
what a loop without any of it costs is taken off, and a case is the median of its rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from statistics import median
from types import SimpleNamespace
from typing import Any, Final

from bench.machine import machine_line
from bench.report import table
from embedpool_api.callers import ANYBODY
from embedpool_api.metrics import ApiMetrics
from embedpool_api.posted import Answer, PostedJob, PostedPack
from embedpool_api.request_log import RequestLog
from embedpool_api.witness import Witness as ApiWitness
from embedpool_shared.jobs import JobReply, LaneClass, MergeKey
from embedpool_shared.measures import MAX_TEAMS, OTHER_TEAM
from embedpool_shared.telemetry.first_names import FirstNames
from embedpool_shared.telemetry.journal import Journal
from embedpool_shared.telemetry.line_writer import LineWriter
from embedpool_shared.telemetry.meters import Meters
from embedpool_worker.called import Called
from embedpool_worker.caps import Caps
from embedpool_worker.held import items_of
from embedpool_worker.metrics import WorkerMetrics
from embedpool_worker.witness import LaneWitness
from embedpool_worker.witness import Witness as WorkerWitness
from support.held import job_of, pack_of
from support.lane_bench import deployment
from unit.api.watched import MODEL, RESOLVED, order_of, reply_of

Told = Callable[[], None]
"""Tells all there is to tell of one request, or of one call."""

REQUESTS_PER_CALL: Final = 20
SILENT: Final = logging.CRITICAL + 1
PASSAGE, METRICS, LOG, ALL = "nothing but its own notes", "metrics", "log", "metrics and log"
CAPS: Final = Caps(max_items=2_048, max_item_tokens=8_191, max_call_tokens=300_000)


class Uncounted:
    """Stands in for metrics: nothing is counted."""

    def __init__(self) -> None:
        """Count nothing in flight, either."""
        self.in_flight = SimpleNamespace(add=lambda _: None)
        self.waiting = self.shared = self.call_began = self.call_ended = self.ended = _nothing


def _nothing(*_: Any, **__: Any) -> None:
    return


class Cases:
    """The same events, told to witnesses that differ in what they have."""

    def __init__(self, writer: LineWriter) -> None:
        """Let lines go to `writer`."""
        self._heard = Journal(writer.write, level=logging.INFO, is_json=True)
        self._silent = Journal(writer.write, level=SILENT, is_json=True)

    def of_requests(self) -> Mapping[str, Told]:
        """One request of one text, answered; its cases."""
        return {
            PASSAGE: _request(_api(Uncounted(), self._silent)),
            METRICS: _request(_api(_api_metrics(), self._silent)),
            LOG: _request(_api(Uncounted(), self._heard)),
            ALL: _request(_api(_api_metrics(), self._heard)),
        }

    def of_calls(self) -> Mapping[str, Told]:
        """One call that answered as many requests; its cases."""
        return {
            PASSAGE: _call(self._lane(Uncounted(), self._silent)),
            METRICS: _call(self._lane(None, self._silent)),
            LOG: _call(self._lane(Uncounted(), self._heard)),
            ALL: _call(self._lane(None, self._heard)),
        }

    def _lane(self, metrics: Any, journal: Journal) -> LaneWitness:
        witness = WorkerWitness(WorkerMetrics(Meters()), models=(MODEL,), kept=journal)
        lane = witness.lane(MODEL)
        if metrics is not None:
            lane.metrics = metrics
        return lane


def _api_metrics() -> ApiMetrics:
    teams = FirstNames(None, most=MAX_TEAMS, rest=OTHER_TEAM)
    metrics = ApiMetrics(Meters(), teams, has_cache=True, version="1")
    metrics.declare([MODEL])
    return metrics


def _api(metrics: Any, journal: Journal) -> ApiWitness:
    return ApiWitness(metrics=metrics, log=RequestLog(journal), slow_request_s=5.0)


def _request(witness: ApiWitness) -> Told:
    order, replies, answer = order_of("one text"), [reply_of()], asyncio.run(_answer(reply_of()))

    def told() -> None:
        passage = witness.arrived("req_0123456789abcdef", "POST", "/v1/embeddings", {})
        passage.caller, passage.resolved, passage.order = ANYBODY, RESOLVED, order
        passage.answer, passage.replies = answer, replies
        passage.status, passage.bytes_in, passage.bytes_out = 200, 80, 8_300
        witness.ended(passage)

    return told


async def _answer(reply: JobReply) -> Answer:
    """An answer that is there, and whose pack Redis took."""
    answer = Answer(1, asyncio.get_running_loop())
    pack = PostedPack("0123456789abcdef01234567", LaneClass.INTERACTIVE, 1, 1, 8, 2, 60.0)
    pack.is_accepted = True
    job = PostedJob(answer, 0, job_of(["one text"]), MergeKey(MODEL), 0.0, pack=pack)
    answer.jobs.append(job)
    answer.settle(0, reply)
    return answer


def _call(witness: LaneWitness) -> Told:
    packs = [
        pack_of([f"text {number}"], pack_id=f"{number:024x}") for number in range(REQUESTS_PER_CALL)
    ]
    for pack in packs:
        pack.leased_at = 1.0
    items = [item for pack in packs for job in pack.open.values() for item in items_of(job)]
    place = deployment("key", id_=f"openai/{MODEL}")

    def told() -> None:
        called = Called(
            items=items,
            inputs=len(items),
            lane_class=LaneClass.INTERACTIVE,
            deployment=place,
            key_id="key_0123456789ab",
            tries=1,
            began_at=2.0,
        )
        witness.call_began(called)
        called.is_answered, called.tokens, called.requests = True, 240, REQUESTS_PER_CALL
        witness.call_ended(called, CAPS, now=2.03)
        witness.metrics.waiting(LaneClass.INTERACTIVE, 0)

    return told


def medians_us(
    cases: Mapping[str, Told], writer: LineWriter, *, rounds: int, times: int
) -> dict[str, float]:
    """Measure the cases in turn; return the CPU microseconds of each, without the loop's own."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, told in cases.items():
            used_us = _cpu_us(told, writer, times) - _cpu_us(_nothing, writer, times)
            if number:  # the first round only warms up
                taken[name].append(used_us)
    assert not writer.dropped
    return {name: median(values) for name, values in taken.items()}


def _cpu_us(told: Told, writer: LineWriter, times: int) -> float:
    began_s = time.process_time()
    for _ in range(times):
        told()
    writer.flush()
    return (time.process_time() - began_s) / times * 1e6


def main() -> None:
    """Print CPU microseconds of each case."""
    parser = argparse.ArgumentParser(prog="python -m bench.witness", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--times", type=int, default=5_000)
    options = parser.parse_args()
    print(machine_line())
    writer = LineWriter(os.open(os.devnull, os.O_WRONLY))
    cases = Cases(writer)
    for title, told in (
        ("api: CPU µs per request", cases.of_requests()),
        (f"worker: CPU µs per call of {REQUESTS_PER_CALL} requests", cases.of_calls()),
    ):
        found = medians_us(told, writer, rounds=options.rounds, times=options.times)
        print(table([title, "in all", "more than without"], _rows(found)), end="\n\n")


def _rows(found: Mapping[str, float]) -> list[list[str]]:
    least = found[PASSAGE]
    return [[name, f"{cost:.1f}", f"{cost - least:.1f}"] for name, cost in found.items()]


if __name__ == "__main__":
    main()
