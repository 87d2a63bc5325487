"""What one text a second feels while bulk uses up a provider's limit, and what bulk gets of it.

In one run, against a provider that allows so many calls a minute: first the single texts alone,
then the same beside bulk work that never ends, as requests in the bulk class or as a real batch.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import httpx
import numpy as np

from bench.machine import machine_line
from bench.report import table
from e2e.asking import Answer, Caller, asked, callers
from e2e.limited import DIMS, MODEL, UPSTREAM, Limits, fullest_of
from e2e.pools import serving
from support.fake_provider import FakeProvider
from support.vectors import vector_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from e2e.pools import Pool
    from support.calls import Call

KEY: Final = "sk-fair"
EVERY_S: Final = 1.0
BULK: Final = {"x-embedpool-class": "bulk"}
DEBUG: Final = {"x-embedpool-debug": "1"}
SINGLE: Final = "single text"
MAX_LINES: Final = 50_000
SPARE_S: Final = 20.0
"""A batch has lines for so much longer than it is looked at."""
MAX_LATENCY_RATIO: Final = 1.5
MIN_BULK_SHARE: Final = 0.85
SLOWEST_SHOWN: Final = 5


@dataclass(slots=True)
class Phase:
    """What single texts met while it lasted, and when that was."""

    name: str
    began_at: float = 0.0
    ended_at: float = 0.0
    answers: list[tuple[float, Answer]] = field(default_factory=list)
    wrong: int = 0

    @property
    def took_ms(self) -> list[float]:
        """How long each answer took."""
        return [1_000 * answer.took_s for _, answer in self.answers]

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the answers did not exceed."""
        return float(np.quantile(self.took_ms, share))

    def take(self, at: float, text: str, answer: Answer) -> None:
        """Note an answer."""
        self.answers.append((at - self.began_at, answer))
        is_right = answer.status == 200 and answer.vectors == [vector_of(text, DIMS, UPSTREAM)]
        self.wrong += not is_right

    def row(self) -> list[str]:
        """Write it as a table has it."""
        waits = [float(answer.headers.get("x-embedpool-queue-ms", 0)) for _, answer in self.answers]
        return [
            self.name,
            f"{len(self.answers)}",
            *(f"{self.quantile_ms(share):.0f}" for share in (0.5, 0.99)),
            f"{float(np.quantile(waits, 0.99)):.0f}",
            f"{max(self.took_ms):.0f}",
        ]

    def slowest(self) -> str:
        """Say which answers took longest, and when they were asked for."""
        ordered = sorted(self.answers, key=lambda one: -one[1].took_s)[:SLOWEST_SHOWN]
        return ", ".join(f"{1_000 * answer.took_s:.0f} ms at {at:.0f} s" for at, answer in ordered)


async def singles(url: str, phase: Phase, seconds: float) -> None:
    """Ask for one text a second, whether or not the last one was answered."""
    phase.began_at = time.monotonic()

    async def ask(at: float) -> None:
        await asyncio.sleep(at - time.monotonic())
        caller = await Caller.at(url)
        text = f"{SINGLE} {at:.6f}"
        answer = await caller.ask(asked(MODEL, text), DEBUG)
        phase.take(at, text, answer)
        await caller.hang_up()

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds / EVERY_S)):
            tasks.create_task(ask(phase.began_at + number * EVERY_S))
    phase.ended_at = phase.began_at + seconds


@asynccontextmanager
async def bulk_by_class(url: str, options: argparse.Namespace) -> AsyncIterator[None]:
    """Keep so many requests of the bulk class under way while the context lasts."""
    numbers = count()
    async with callers(options.in_flight, url) as connected:

        async def keep_asking(caller: Caller) -> None:
            while True:
                texts = [f"bulk text {next(numbers)}" for _ in range(options.texts)]
                answer = await caller.ask(asked(MODEL, texts), BULK)
                right = [vector_of(text, DIMS, UPSTREAM) for text in texts]
                if answer.status != 200 or answer.vectors != right:
                    sys.exit(f"bulk was answered wrongly: {answer.status} {str(answer.body)[:300]}")

        tasks = [asyncio.create_task(keep_asking(caller)) for caller in connected]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def bulk_by_batch(url: str, options: argparse.Namespace) -> AsyncIterator[None]:
    """Have a batch in progress while the context lasts; one text a line."""
    calls = options.rpm / 60 * (options.seconds + SPARE_S)
    lines = min(MAX_LINES, int(calls * options.texts))
    async with httpx.AsyncClient(base_url=f"{url}/v1", trust_env=False, timeout=60) as client:
        content = "\n".join(_line(number) for number in range(lines)).encode()
        uploaded = await _posted(
            client, "/files", data={"purpose": "batch"}, files={"file": ("bulk.jsonl", content)}
        )
        asked_for = {
            "input_file_id": uploaded["id"],
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
        }
        batch = f"/batches/{(await _posted(client, '/batches', json=asked_for))['id']}"
        while (state := (await client.get(batch)).json())["status"] != "in_progress":
            if state["status"] != "validating":
                sys.exit(f"the batch did not start: {state}")
            await asyncio.sleep(0.1)
        yield
        state = (await client.get(batch)).json()
        if state["status"] != "in_progress":
            sys.exit(f"the batch had too few lines to last: {state}")
        print(f"the batch by then: {state['request_counts']}", file=sys.stderr, flush=True)
        await _posted(client, f"{batch}/cancel")


def _line(number: int) -> str:
    body = {"model": MODEL, "input": f"bulk text {number}"}
    line = {"custom_id": f"{number}", "method": "POST", "url": "/v1/embeddings", "body": body}
    return json.dumps(line)


async def _posted(client: httpx.AsyncClient, path: str, **what: Any) -> dict[str, Any]:
    answer = await client.post(path, **what)
    if answer.status_code != 200:
        sys.exit(f"{path}: {answer.status_code} {answer.text[:300]}")
    found: dict[str, Any] = answer.json()
    return found


async def run(pool: Pool, options: argparse.Namespace) -> tuple[Phase, Phase]:
    """Go through both phases."""
    idle, beside = Phase("alone"), Phase("beside a batch" if options.batch else "beside bulk")
    await singles(pool.url, Phase("warm-up"), 3)
    await singles(pool.url, idle, options.idle_seconds)
    bulk = bulk_by_batch if options.batch else bulk_by_class
    async with bulk(pool.url, options):
        await singles(pool.url, beside, options.seconds)
    return idle, beside


def calls_of(fake: FakeProvider, phase: Phase) -> tuple[list[Call], list[Call]]:
    """The calls of a phase: those with a single text in them, and those of bulk alone."""
    seen = [call for call in fake.calls if phase.began_at <= call.at < phase.ended_at]
    single = [call for call in seen if any(str(one).startswith(SINGLE) for one in call.items)]
    return single, [call for call in seen if call not in single]


def report(fake: FakeProvider, phases: Sequence[Phase], options: argparse.Namespace) -> bool:
    """Print what was seen; tell whether it is as it should be."""
    idle, beside = phases
    titles = ["one text a second", "answers", "p50 ms", "p99 ms", "p99 in queue", "slowest ms"]
    print(table(titles, [phase.row() for phase in phases]))
    ratio = beside.quantile_ms(0.99) / idle.quantile_ms(0.99)
    single, bulk = calls_of(fake, beside)
    left = options.rpm * options.seconds / 60 - len(single)
    most, _ = fullest_of(fake, KEY)
    refused = fake.totals.by_status.get(429, 0)
    wrong = sum(phase.wrong for phase in phases)
    print(
        f"\np99 beside bulk ÷ alone: {ratio:.2f} (≤ {MAX_LATENCY_RATIO}); bulk made {len(bulk)} of "
        f"the {left:.0f} calls left: {len(bulk) / left:.1%} (≥ {MIN_BULK_SHARE:.0%}), "
        f"{np.mean([len(call.items) for call in bulk]):.0f} texts each\n"
        f"fullest minute: {most} of {options.rpm} calls; 429s: {refused}; wrong: {wrong}\n"
        f"slowest beside bulk: {beside.slowest()}"
    )
    if options.pace:
        print("calls in each second: " + " ".join(_per_second([*single, *bulk], beside)))
    is_fair = ratio <= MAX_LATENCY_RATIO and len(bulk) >= MIN_BULK_SHARE * left
    return is_fair and not (refused or wrong) and most <= options.rpm


def _per_second(calls: Sequence[Call], phase: Phase) -> Iterator[str]:
    for second in range(int(phase.ended_at - phase.began_at)):
        began_at = phase.began_at + second
        yield str(sum(began_at <= call.at < began_at + 1 for call in calls))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--batch", action="store_true", help="bulk is a batch, not requests")
    parser.add_argument("--rpm", type=int, default=600, help="calls a minute the provider allows")
    parser.add_argument("--texts", type=int, default=32, help="of a call")
    parser.add_argument("--in-flight", type=int, default=32, help="requests of bulk at a time")
    parser.add_argument("--latency-ms", type=float, default=300.0, help="of a call")
    parser.add_argument("--latency-per-text-ms", type=float, default=0.2)
    parser.add_argument("--idle-seconds", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=120.0, help="beside bulk; whole minutes")
    parser.add_argument("--pace", action="store_true", help="print the calls of each second")
    return parser.parse_args()


def main() -> None:
    """Print both phases; exits with 1 when a target, the limit or an answer was missed."""
    options = _options()
    print(machine_line(), flush=True)
    limits = Limits(keys=(KEY,), rpm=options.rpm)
    with FakeProvider.in_thread(
        dims=DIMS,
        latency_s=options.latency_ms / 1_000,
        latency_per_text_s=options.latency_per_text_ms / 1_000,
    ) as fake:
        limits.hold(fake)
        entry = limits.entry(fake)
        entry["model_info"]["max_items_per_call"] = options.texts
        with serving(config={"model_list": [entry]}) as pool:
            phases = asyncio.run(run(pool, options))
        if not report(fake, phases, options):
            sys.exit(1)


if __name__ == "__main__":
    main()
