"""What limits cost: a key with limits of every kind beside one without, in turns."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.request import Request, urlopen

from bench.load import Load, Outcome, measure
from bench.machine import machine_line
from bench.report import table
from bench.stand import DIMS, MODEL, standing

MASTER_KEY: Final = "sk-master-of-the-bench"
WIDE: Final = {
    "rpm_limit": 1_000_000_000,
    "tpm_limit": 1_000_000_000_000,
    "max_parallel_requests": 100_000,
    "max_budget": 1_000_000,
    "budget_duration": "30d",
}
"""Limits that are checked with every request and never reached."""


def _new_key(url: str, body: dict[str, Any]) -> str:
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    request = Request(f"{url}/key/generate", json.dumps(body).encode(), headers)  # noqa: S310
    with urlopen(request, timeout=5) as answer:  # noqa: S310
        return str(json.load(answer)["key"])


def _rate(rounds: list[Outcome]) -> float:
    return sum(outcome.requests_per_s for outcome in rounds) / len(rounds)


def main() -> None:
    """Print the rates of both keys and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench.keyed", description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each key")
    options = parser.parse_args()
    print(machine_line())
    with (
        tempfile.TemporaryDirectory(prefix="ep-bench-") as name,
        standing(Path(name), master_key=MASTER_KEY) as stand,
    ):
        keys = {
            "without limits": _new_key(stand.pool_url, {}),
            "with every limit": _new_key(stand.pool_url, WIDE),
        }
        seen: dict[str, list[Outcome]] = {kind: [] for kind in keys}
        for _ in range(options.rounds):
            for kind, key in keys.items():
                load = Load(
                    url=stand.pool_url,
                    model=MODEL,
                    dims=DIMS,
                    connections=options.connections,
                    seconds=options.seconds,
                    key=key,
                )
                seen[kind].append(measure(load))
    rows = [
        [
            kind,
            f"{_rate(rounds):,.0f}",
            f"{rounds[-1].quantile_ms(0.5):.1f}",
            f"{rounds[-1].quantile_ms(0.99):.1f}",
            str(sum(outcome.failures for outcome in rounds)),
        ]
        for kind, rounds in seen.items()
    ]
    print(table(["key", "requests/s", "p50 ms", "p99 ms", "failures"], rows))
    free, limited = seen.values()
    ratios = [b.requests_per_s / a.requests_per_s for a, b in zip(free, limited, strict=True)]
    print(f"\nwith limits ÷ without, median of the turns: {median(ratios):.2f}")


if __name__ == "__main__":
    main()
