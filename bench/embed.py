"""`embedpool embed`: a long run with the local model, and its speed beside other clients'.

`rows` embeds many short rows with wordllama and shows memory over time. `beside` sends the same
texts to the fake provider with `embedpool embed`, directly and through a pool, with Baseten's
client, and with OpenAI's through LiteLLM's proxy. `limits` embeds through a pool whose provider
allows so many calls and tokens a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from bench import other_clients
from bench.machine import machine_line
from bench.other_clients import LITELLM_KEY, baseten, litellm_proxy, openai_async
from bench.report import table
from bench.stand import MODEL, standing
from e2e.limited import DIMS, Limits, exactly, text_of
from e2e.limited import MODEL as LIMITED
from e2e.pools import serving
from support.fake_provider import FakeProvider
from support.processes import Program, embedpool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.stand import Stand

GLANCE_S: Final = 0.5
MIB: Final = 1024 * 1024
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
DIRECTLY: Final = "embed, directly"
THROUGH_POOL: Final = "embed, pool"
BASETEN: Final = "baseten-performance-client, directly"
THROUGH_LITELLM: Final = "openai, LiteLLM's proxy"
LITELLM_BATCH: Final = 100
LITELLM_CONCURRENCY: Final = 32
MIN_OF_BASETEN: Final = 0.7
MIN_OF_LITELLM: Final = 3
MAX_OF_LIMITS: Final = 1.05


@dataclass(slots=True)
class Watched:
    """One run's time, and the memory of the command itself, in MiB, as it went on."""

    seconds: float = 0.0
    rss_mib: list[float] = field(default_factory=list)


def write_rows(path: Path, rows: int, words: int) -> None:
    """Write distinct texts of about so many words."""
    filler = " ".join(f"word{number}" for number in range(words))
    with path.open("w") as file:
        for number in range(rows):
            file.write(json.dumps({"id": f"row-{number}", "text": f"{number} {filler}"}) + "\n")


@contextmanager
def running(arguments: Sequence[str], log: Path) -> Iterator[Program]:
    """Run `embedpool embed …`."""
    with embedpool("embed", *arguments, log=log) as run:
        yield run


def watched(arguments: Sequence[str], log: Path, *, kill_after_s: float | None = None) -> Watched:
    """Run the command to its end, or kill it; sample its memory."""
    found = Watched()
    began = time.monotonic()
    with running(arguments, log) as run:
        while run.is_running:
            found.rss_mib.append(_rss_mib(run.pid))
            found.seconds = time.monotonic() - began
            if kill_after_s is not None and found.seconds > kill_after_s:
                run.signal(signal.SIGKILL)
                run.wait()
                return found
            time.sleep(GLANCE_S)
        if run.wait():
            sys.exit(run.output)
        print(run.output.splitlines()[-1], flush=True)
    return found


def _rss_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / MIB
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0


def rows_with_wordllama(directory: Path, options: argparse.Namespace) -> None:
    """Embed many short rows with the local model, killed now and then."""
    source, out = directory / "rows.jsonl", directory / "out.parquet"
    write_rows(source, options.rows, options.words)
    arguments = [str(source), "-o", str(out), "--id", "id", "--local"]
    seconds = 0.0
    for kill in range(options.kills):
        part = watched(
            arguments, directory / f"log-{kill}", kill_after_s=options.kill_after_s * (kill + 1)
        )
        seconds += part.seconds
        print(f"killed -9 after {part.seconds:.1f} s", flush=True)
    last = watched(arguments, directory / "log")
    print(_memory(last))
    file = pq.ParquetFile(out)
    row = 0
    for batch in file.iter_batches(columns=["id"]):
        ids = batch.column(0).to_pylist()
        if ids != [f"row-{number}" for number in range(row, row + len(ids))]:
            sys.exit(f"ids after row {row} are not the input's")
        row += len(ids)
    if row != options.rows:
        sys.exit(f"{options.rows:,} rows in, {row:,} out")
    seconds += last.seconds
    rate = options.rows / seconds
    print(f"{row:,} rows, ids exact · {seconds:.1f} s in all · {rate:,.0f} rows/s")


def _memory(run: Watched) -> str:
    tenths = [run.rss_mib[int(len(run.rss_mib) * n / 10)] for n in range(1, 10)]
    over_time = " ".join(f"{mib:.0f}" for mib in tenths)
    most = max(run.rss_mib)
    return f"memory of the command, MiB, at each tenth of the run: {over_time}; most {most:.0f}"


def beside_others(directory: Path, options: argparse.Namespace) -> None:
    """Compare speeds against the fake provider, one client after the other, in rounds."""
    source = directory / "rows.jsonl"
    write_rows(source, options.rows, options.words)
    with ExitStack() as ends:
        stand = ends.enter_context(standing(directory, latency_ms=options.latency_ms))
        runs = _runs(stand, source, directory, options, ends)
        took: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, (run, _) in runs.items():
                took[name].append(_timed(run))
    rates = {name: runs[name][1] / median(seconds) for name, seconds in took.items()}
    print(table(["client", "texts", "s", "texts/s"], [
        [name, f"{runs[name][1]:,}", f"{median(seconds):.2f}", f"{rates[name]:,.0f}"]
        for name, seconds in took.items()
    ]))  # fmt: skip
    for other, least in ((BASETEN, MIN_OF_BASETEN), (THROUGH_LITELLM, MIN_OF_LITELLM)):
        for name in (DIRECTLY, THROUGH_POOL) if other in rates else ():
            print(f"{name} ÷ {other}: {rates[name] / rates[other]:.2f} (≥ {least})")


def _runs(
    stand: Stand, source: Path, directory: Path, options: argparse.Namespace, ends: ExitStack
) -> dict[str, tuple[Callable[[], object], int]]:
    """List what there is to compare: a run of each client, and how many texts it embeds."""
    texts = [json.loads(line)["text"] for line in source.read_text().splitlines()]
    pace = {"batch": options.batch, "concurrency": options.concurrency}
    runs: dict[str, tuple[Callable[[], object], int]] = {
        name: (partial(_embedded, source, directory, url, options), len(texts))
        for name, url in ((DIRECTLY, stand.fake_url), (THROUGH_POOL, stand.pool_url))
    }
    try:
        client = baseten(options.baseten, stand.fake_url, MODEL, **pace)
        runs[BASETEN] = (partial(client, texts), len(texts))
    except ModuleNotFoundError:
        print("baseten-performance-client is not installed: see --help", file=sys.stderr)
    if options.litellm is not None:
        proxy = litellm_proxy(options.litellm, stand.fake_url, MODEL, directory)
        url, some = ends.enter_context(proxy), texts[: options.litellm_rows]
        pace = {"batch": LITELLM_BATCH, "concurrency": LITELLM_CONCURRENCY}
        slow = openai_async(url, LITELLM_KEY, MODEL, **pace)
        slow(texts[:LITELLM_BATCH])  # its first answer takes seconds
        runs[THROUGH_LITELLM] = (partial(slow, some), len(some))
    return runs


def _embedded(source: Path, directory: Path, url: str, options: argparse.Namespace) -> None:
    out = directory / "out.parquet"
    out.unlink(missing_ok=True)
    pace = ["--batch", str(options.batch), "--concurrency", str(options.concurrency)]
    arguments = [str(source), "-o", str(out), "--url", url, "--model", MODEL, *pace]
    watched(arguments, directory / "log")


def _timed(run: Callable[[], object]) -> float:
    began = time.monotonic()
    run()
    return time.monotonic() - began


def under_limits(directory: Path, options: argparse.Namespace) -> None:
    """Embed so many minutes' worth of tokens with a key that has limits; see how long it takes."""
    limits = Limits(keys=("sk-bench",), rpm=options.rpm, tpm=options.tpm)
    source, out = directory / "rows.jsonl", directory / "out.parquet"
    rows = int(options.minutes * options.tpm / options.tokens)
    with source.open("w") as file:
        for number in range(rows):
            file.write(json.dumps({"text": text_of(number, options.tokens)}) + "\n")
    with FakeProvider.in_thread(
        dims=DIMS, latency_s=options.latency_ms / 1_000, count_tokens=exactly
    ) as fake:
        limits.hold(fake)
        with serving(config={"model_list": [limits.entry(fake)]}) as pool:
            arguments = [str(source), "-o", str(out), "--url", pool.url, "--model", LIMITED]
            seconds = _timed(lambda: watched(arguments, directory / "log"))
        least_s = max(fake.totals.tokens / options.tpm, fake.totals.calls / options.rpm) * 60
        print(
            f"{rows:,} rows, {fake.totals.tokens:,} tokens in {fake.totals.calls:,} calls: "
            f"{seconds:.1f} s, tokens ÷ limit {fake.totals.tokens / options.tpm * 60:.1f} s, "
            f"ratio {seconds / least_s:.3f} (≤ {MAX_OF_LIMITS}); "
            f"429s: {fake.totals.by_status.get(429, 0)}"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.embed",
        description=__doc__,
        epilog=other_clients.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=list(KINDS))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=8)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--kill-after-s", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=1, help="of beside; the median counts")
    parser.add_argument("--baseten", type=Path, metavar="DIR", help="where its client was put")
    parser.add_argument("--litellm", type=Path, metavar="DIR", help="its proxy's environment")
    parser.add_argument("--litellm-rows", type=int, default=10_000, help="of so many rows")
    parser.add_argument("--rpm", type=int, default=600, help="of limits")
    parser.add_argument("--tpm", type=int, default=1_000_000, help="of limits")
    parser.add_argument("--tokens", type=int, default=200, help="of a text, of limits")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="so many are needed at least, of limits"
    )
    return parser.parse_args()


def main() -> None:
    """Run one of the three."""
    options = _options()
    print(machine_line(), flush=True)
    with tempfile.TemporaryDirectory(prefix="ep-bench-") as directory:
        KINDS[options.what](Path(directory), options)


KINDS: Final = {"rows": rows_with_wordllama, "beside": beside_others, "limits": under_limits}


if __name__ == "__main__":
    main()
