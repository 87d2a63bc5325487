"""embedpool beside the fake provider alone: the same requests, minute and machine."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.load import Load, Outcome, measure
from bench.machine import machine_line
from bench.questions import Encoding
from bench.report import table
from bench.stand import DIMS, MODEL, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.stand import Stand

_ROLES: Final = ("api", "worker", "valkey", "serve", "fake", "load")
_BULK_TEXTS: Final = 256
_BULK_CONNECTIONS: Final = 8
_FLOAT_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    connections: int
    texts: int = 1
    encoding: Encoding = Encoding.BASE64

    @property
    def name(self) -> str:
        """What `--only` may name a part of."""
        size = "1 text" if self.texts == 1 else f"{self.texts} texts"
        return f"{size}, {self.encoding}, {self.connections} connections"

    def load(self, url: str, seconds: float) -> Load:
        """Aim this case at a server."""
        return Load(
            url=url,
            model=MODEL,
            dims=DIMS,
            connections=self.connections,
            seconds=seconds,
            texts=self.texts,
            encoding=self.encoding,
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """One case's figures."""

    case: Case
    pool: Outcome
    alone: Outcome
    provider_calls: int
    provider_items: int
    cpu_s: dict[str, float]  # by role, during `pool`

    @property
    def failures(self) -> list[str]:
        """What went wrong, if anything."""
        return [
            f"{self.case.name}: {who}: {outcome.failures} failures, first: {outcome.first_failure}"
            for who, outcome in (("embedpool", self.pool), ("fake alone", self.alone))
            if outcome.failures
        ]


def cases(connections: Sequence[int]) -> list[Case]:
    """List what is measured, in order."""
    return [
        *(Case(number) for number in connections),
        Case(_FLOAT_CONNECTIONS, encoding=Encoding.FLOAT),
        Case(_BULK_CONNECTIONS, _BULK_TEXTS),
        Case(_BULK_CONNECTIONS, _BULK_TEXTS, Encoding.FLOAT),
    ]


def measured(stand: Stand, case: Case, seconds: float, *, beside_fake: bool) -> Measured:
    """Measure one case at embedpool, then at the fake provider alone."""
    stand.reset_fake()
    before = stand.cpu_s()
    pool = measure(case.load(stand.pool_url, seconds))
    after, counted = stand.cpu_s(), stand.fake_stats()
    alone = measure(case.load(stand.fake_url, seconds)) if beside_fake else Outcome(seconds)
    cpu_s = {role: after.get(role, 0.0) - before.get(role, 0.0) for role in after}
    cpu_s["load"] = pool.cpu_s
    return Measured(case, pool, alone, counted["calls"], counted["items"], cpu_s)


def speed_row(one: Measured) -> list[str]:
    """Write requests per second, latencies and the ratio of one case."""
    ratio = "–"
    if one.alone.latencies_s:
        ratio = f"{one.pool.requests_per_s / one.alone.requests_per_s:.3f}"
    return [one.case.name, *_speed(one.pool), *_speed(one.alone), ratio]


def _speed(outcome: Outcome) -> list[str]:
    if not outcome.latencies_s:
        return ["–"] * 3
    quantiles = [f"{outcome.quantile_ms(share):.2f}" for share in (0.5, 0.99)]
    return [f"{outcome.requests_per_s:,.0f}", *quantiles]


def work_row(one: Measured) -> list[str]:
    """Write how well one case was batched and what CPU each role spent on it."""
    # Calls and CPU cover the warm-up too, so they are set against what the fake saw of it.
    requests = one.provider_items / one.case.texts or 1
    items_per_call = one.provider_items / (one.provider_calls or 1)
    cpu = [f"{one.cpu_s.get(role, 0.0):.2f}" for role in _ROLES]
    return [
        one.case.name,
        f"{one.provider_calls / requests:.3f}",
        f"{items_per_call:.1f}",
        *cpu,
    ]


def _report(all_measured: Sequence[Measured]) -> None:
    speed_titles = ["embedpool beside the fake alone", "req/s", "p50 ms", "p99 ms"]
    speed_titles += ["fake req/s", "fake p50", "fake p99", "ratio"]
    print(table(speed_titles, [speed_row(one) for one in all_measured]), end="\n\n")
    work_titles = ["CPU seconds of embedpool's run", "calls/request", "items/call", *_ROLES]
    print(table(work_titles, [work_row(one) for one in all_measured]), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.5, help="per case and server")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument(
        "--pool-only", action="store_true", help="leave the fake alone out, to profile embedpool"
    )
    return parser.parse_args()


def main() -> None:
    """Measure every case and print both tables; exits with 1 when any answer was wrong."""
    options = _options()
    chosen = [case for case in cases(options.connections) if options.only in case.name]
    print(machine_line())
    print(f"{DIMS} dimensions · AOF on · distinct texts · {options.seconds:g} s each", flush=True)
    with tempfile.TemporaryDirectory(prefix="ep-bench-") as name, standing(Path(name)) as stand:
        pids = " ".join(f"{one.pid}={one.command[-60:]!r}" for one in stand.pool.members())
        print(f"processes: {pids}", file=sys.stderr, flush=True)
        beside = not options.pool_only
        results = [measured(stand, one, options.seconds, beside_fake=beside) for one in chosen]
    _report(results)
    if failures := [line for one in results for line in one.failures]:
        sys.exit("\n".join(failures))
