"""What a pool gets out of keys with limits, beside a client that sends one text per call.

Both work for the same time against providers with the same limits, which look at every sliding
minute of each key and answer 429 to a call too many. One of the pool's workers is killed on the
way. The client loses nothing it could have: it waits exactly as long as it is told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from bench.machine import machine_line
from bench.report import table
from e2e.limited import DIMS, Crowd, Limits, exactly, fullest_of, one_text_per_call
from e2e.pools import serving
from support.fake_provider import FakeProvider
from support.key_minutes import MINUTE_S

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from e2e.pools import Pool

LATENCY_S: Final = 0.05


async def kill_a_worker(pool: Pool, *, after_s: float) -> None:
    """Kill one of the pool's workers after a while, as the kernel does that has no memory left."""
    await asyncio.sleep(after_s)
    victim = pool.workers()[0].pid
    os.kill(victim, signal.SIGKILL)
    print(f"after {after_s:g} s worker {victim} was killed", file=sys.stderr, flush=True)


async def side_by_side(
    pool: Pool, limits: Limits, plain: FakeProvider, options: argparse.Namespace
) -> tuple[Crowd, int]:
    """Let both work for the same time; returns how the crowd fared, and the client's texts."""
    crowd = Crowd(options.tokens)
    seconds = options.seconds
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crowd.ask(pool.url, callers_count=options.callers, seconds=seconds))
        tasks.create_task(kill_a_worker(pool, after_s=seconds / 3))
        alone = tasks.create_task(
            one_text_per_call(plain, limits.keys, callers_count=options.callers, seconds=seconds)
        )
    return crowd, alone.result()


def key_row(fake: FakeProvider, key: str, seconds: float) -> list[str]:
    """Write what one key was used for: calls and tokens of its fullest minute, and of the later."""
    begun_at = min(call.at for call in fake.calls)
    late = [
        call for call in fake.calls if call.key == key and MINUTE_S <= call.at - begun_at < seconds
    ]
    minutes = (seconds - MINUTE_S) / MINUTE_S
    most_calls, most_tokens = fullest_of(fake, key)
    rates = [len(late) / minutes, sum(call.tokens for call in late) / minutes]
    return [key, f"{most_calls}", f"{most_tokens:,}", *(f"{rate:,.0f}" for rate in rates)]


def provider() -> AbstractContextManager[FakeProvider]:
    """Run a provider that counts tokens as the pool does."""
    return FakeProvider.in_thread(dims=DIMS, latency_s=LATENCY_S, count_tokens=exactly)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.keys", description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="more than a minute")
    parser.add_argument("--rpm", type=int, default=60, help="calls a minute for each key; 0 none")
    parser.add_argument("--tpm", type=int, default=0, help="tokens a minute for each key; 0 none")
    parser.add_argument("--keys", type=int, default=2)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=20, help="of each text")
    parser.add_argument(
        "--goal", type=float, default=20.0, help="so many times as many texts as the client"
    )
    return parser.parse_args()


def main() -> None:
    """Print what both came to; exits with 1 when a limit, an answer or the goal was missed."""
    options = _options()
    names = tuple(f"sk-key-{number}" for number in range(options.keys))
    limits = Limits(keys=names, rpm=options.rpm or None, tpm=options.tpm or None)
    print(machine_line(), flush=True)
    with provider() as fake, provider() as plain:
        limits.hold(fake)
        limits.hold(plain)
        with serving("--workers", f"{options.workers}", config=_config(limits, fake)) as pool:
            crowd, alone = asyncio.run(side_by_side(pool, limits, plain, options))
        rows = [key_row(fake, key, options.seconds) for key in limits.keys]
        totals = fake.totals
    print(table(["key", "most calls/min", "most tokens/min", "calls/min", "tokens/min"], rows))
    ratio = crowd.answered / max(1, alone)
    print(
        f"\n{crowd.answered / options.seconds:,.1f} texts/s through the pool ({totals.calls} calls,"
        f" {totals.items / totals.calls:.1f} texts each), {alone / options.seconds:,.1f} with one "
        f"text per call: {ratio:.1f} times; slowest answer {crowd.slowest_s:.1f} s\n"
        f"refused to callers: {len(crowd.refused)}, wrong: {crowd.wrong}, "
        f"429s: {totals.by_status.get(429, 0)}"
    )
    if crowd.refused or crowd.wrong or 429 in totals.by_status or ratio < options.goal:
        sys.exit(1)


def _config(limits: Limits, fake: FakeProvider) -> dict[str, object]:
    return {"model_list": [limits.entry(fake)]}


if __name__ == "__main__":
    main()
