"""`embedpool embed`: a long run with the local model, and its speed beside other clients'.

`python -m bench.embed rows` embeds many short rows with wordllama and shows memory over time;
`python -m bench.embed beside` sends the same texts to the fake provider with `embedpool embed`
directly, with it through a pool, and with baseten-performance-client where that is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from bench.machine import machine_line
from bench.report import table
from bench.stand import MODEL, standing
from support.processes import Program, embedpool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GLANCE_S: Final = 0.5
MIB: Final = 1024 * 1024
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
LONG_S: Final = 7_200.0


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
    """Compare speeds against the fake provider."""
    source = directory / "rows.jsonl"
    write_rows(source, options.rows, options.words)
    measured: list[tuple[str, float]] = []
    with standing(directory, latency_ms=options.latency_ms) as stand:
        for name, url in (("embed, directly", stand.fake_url), ("embed, pool", stand.pool_url)):
            shared = ["--batch", str(options.batch), "--concurrency", str(options.concurrency)]
            out = directory / f"{len(measured)}.parquet"
            arguments = [str(source), "-o", str(out), "--url", url, "--model", MODEL, *shared]
            measured.append((name, _timed(lambda a=arguments: watched(a, directory / "log"))))  # type: ignore[misc]
        texts = [json.loads(line)["text"] for line in source.read_text().splitlines()]
        if (client := _baseten(stand.fake_url)) is not None:
            measured.append(("baseten-performance-client, directly", _timed(
                lambda: client(texts, options.batch, options.concurrency)
            )))  # fmt: skip
    base = measured[-1][1]
    print(
        table(
            ["client", "s", "texts/s", "of the last"],
            [
                [name, f"{took_s:.2f}", f"{options.rows / took_s:,.0f}", f"{base / took_s:.2f}"]
                for name, took_s in measured
            ],
        )
    )


def _timed(run: Callable[[], object]) -> float:
    began = time.monotonic()
    run()
    return time.monotonic() - began


def _baseten(url: str) -> Callable[[list[str], int, int], Any] | None:
    try:
        from baseten_performance_client import (  # noqa: PLC0415
            PerformanceClient,
            RequestProcessingPreference,
        )
    except ModuleNotFoundError:
        print("baseten-performance-client is not installed: left out", file=sys.stderr)
        return None
    client = PerformanceClient(base_url=url, api_key="sk-bench")

    def embed(texts: list[str], batch: int, concurrency: int) -> Any:
        how = RequestProcessingPreference(
            batch_size=batch, max_concurrent_requests=concurrency, max_chars_per_request=MIB
        )
        answer = client.embed(input=texts, model=MODEL, encoding_format="base64", preference=how)
        # Base64 is what it does fastest; it leaves the decoding to its caller.
        if len(answer.data) != len(texts):
            sys.exit(f"baseten-performance-client answered {len(answer.data)} vectors")
        return answer

    return embed


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(prog="python -m bench.embed", description=__doc__)
    parser.add_argument("what", choices=("rows", "beside"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=8)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--kill-after-s", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    print(machine_line(), flush=True)
    run = rows_with_wordllama if options.what == "rows" else beside_others
    with tempfile.TemporaryDirectory(prefix="ep-bench-") as directory:
        run(Path(directory), options)


if __name__ == "__main__":
    main()
