"""`embedpool embed` killed at random points: the same rows in the same order, hardly any twice.

The texts go to the local model of a pool that lives on, so that its ledger tells how many of them
were embedded again. `--local` kills the pool along with the command, and cannot tell.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pyarrow.parquet as pq

from bench.embed import write_rows
from bench.machine import machine_line
from e2e.pools import Pool, serving
from e2e.store import store_at
from embedpool_cli.embed.journal import last_progress
from support.processes import Program, embedpool

MODEL: Final = "wordllama"
CONFIG: Final = {
    "model_list": [{"model_name": MODEL, "litellm_params": {"model": "wordllama/wordllama"}}]
}
GLANCE_S: Final = 0.1
BATCH: Final = 256
CONCURRENCY: Final = 16
WINDOW_ROWS: Final = 2 * BATCH * CONCURRENCY
CHECK_EVERY: Final = 5_000
"""One vector in so many is compared with what the model says when it is asked alone."""


@dataclass(slots=True)
class Crashes:
    """All starts of one run."""

    arguments: Sequence[str]
    directory: Path
    journal: Path
    seconds: float = 0.0

    def killed_after(self, rows: int) -> None:
        """Start the command, and kill it as soon as so many rows are in its journal."""
        with self._started() as run:
            rss_mib = self._watched(run, lambda: self.rows_done >= rows)
            run.signal(signal.SIGKILL)
            run.wait()
        print(f"killed -9 after {rows:,} rows, {self.rows_done:,} were safe; {_memory(rss_mib)}")

    def to_its_end(self) -> None:
        """Start the command for the last time."""
        with self._started() as run:
            rss_mib = self._watched(run, lambda: False)
            if run.wait():
                sys.exit(run.output)
            print(f"{run.output.splitlines()[-1]}; {_memory(rss_mib)}")

    @property
    def rows_done(self) -> int:
        """How many rows the journal knows of."""
        if not self.journal.exists():
            return 0
        return last_progress(self.journal.read_bytes())[0].rows_in

    def _started(self) -> Program:
        return embedpool("embed", *self.arguments, log=self.directory / "log")

    def _watched(self, run: Program, is_enough: Callable[[], bool]) -> list[float]:
        rss_mib: list[float] = []
        began = time.monotonic()
        while run.is_running and not is_enough():
            rss_mib.append(_rss_mib(run.pid))
            time.sleep(GLANCE_S)
        self.seconds += time.monotonic() - began
        return rss_mib


def _rss_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    sizes = [row.split()[1] for row in status.splitlines() if row.startswith("VmRSS:")]
    return int(sizes[0]) / 1_024 if sizes else 0.0


def crash(directory: Path, options: argparse.Namespace, pool: Pool | None) -> None:
    """Embed many short rows, killed on the way; ends the program where a row is not right."""
    source, out = directory / "rows.jsonl", directory / "out.parquet"
    write_rows(source, options.rows, options.words)
    arguments = [str(source), "-o", str(out), "--id", "id", "--model", MODEL]
    arguments += ["--batch", str(BATCH), "--concurrency", str(CONCURRENCY)]
    arguments += ["--local"] if pool is None else ["--url", pool.url]
    run = Crashes(arguments, directory, Path(f"{out}.embedpool") / "journal")
    draw = random.Random(options.seed)
    for share in sorted(draw.uniform(0.02, 0.98) for _ in range(options.kills)):
        run.killed_after(int(share * options.rows))
    run.to_its_end()
    check_ids(out, options.rows)
    print(f"{options.rows:,} rows, ids exact and in order; {run.seconds:.1f} s in all starts")
    if pool is not None:
        check_vectors(out, source, pool)
        check_repeats(pool, options.rows, options.kills)


def check_ids(out: Path, rows: int) -> None:
    """Every row is there, once, where it was in the input."""
    row = 0
    for batch in pq.ParquetFile(out).iter_batches(columns=["id"]):
        ids = batch.column(0).to_pylist()
        if ids != [f"row-{number}" for number in range(row, row + len(ids))]:
            sys.exit(f"ids after row {row} are not the input's")
        row += len(ids)
    if row != rows:
        sys.exit(f"{rows:,} rows in, {row:,} out")


def check_vectors(out: Path, source: Path, pool: Pool) -> None:
    """Some rows have the vectors that their texts get alone."""
    vectors: Any = pq.read_table(out, columns=["embedding"]).column("embedding")
    checked = 0
    with source.open() as file, httpx.Client(trust_env=False, timeout=30) as client:
        for row, line in enumerate(file):
            if row % CHECK_EVERY:
                continue
            body = {"model": MODEL, "input": json.loads(line)["text"]}
            answer = client.post(f"{pool.url}/v1/embeddings", json=body).json()
            alone = np.asarray(answer["data"][0]["embedding"], np.float32)
            if not np.allclose(vectors[row].as_py(), alone, atol=1e-6):
                sys.exit(f"row {row} has not the vector of its text")
            checked += 1
    print(f"{checked} vectors are those of their texts")


def check_repeats(pool: Pool, rows: int, kills: int) -> None:
    """At most a window was embedded again for each time the command was killed."""
    with store_at(pool.store_url) as store:
        store.wait_until_quiet()
        embedded = sum(record.items for record in store.ledger(MODEL))
    again = embedded - rows - -(-rows // CHECK_EVERY)
    most = kills * WINDOW_ROWS
    print(f"{again:,} rows were embedded again, {most:,} at most ({kills} windows)")
    if again > most:
        sys.exit("that is too many")


def _memory(rss_mib: Sequence[float]) -> str:
    tenths = [rss_mib[int(len(rss_mib) * n / 10)] for n in range(1, 10)]
    over_time = " ".join(f"{mib:.0f}" for mib in tenths)
    return f"memory in MiB at each tenth: {over_time}; most {max(rss_mib):.0f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.embed_crashes", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=17, help="of the points")
    parser.add_argument("--local", action="store_true", help="kill the pool, too")
    return parser.parse_args()


def main() -> None:
    """Run it."""
    options = _options()
    print(machine_line(), flush=True)
    with ExitStack() as ends:
        directory = ends.enter_context(tempfile.TemporaryDirectory(prefix="ep-bench-"))
        pool = None if options.local else ends.enter_context(serving(config=CONFIG))
        crash(Path(directory), options, pool)


if __name__ == "__main__":
    main()
