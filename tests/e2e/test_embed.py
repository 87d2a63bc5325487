"""`embedpool embed` against a running pool: each row once, in order, come what may."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.pools import Pool
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import ROOT, Program, embedpool_command, wait_until
from support.vectors import vector_of

pytestmark = pytest.mark.long

ROWS: Final = 20_000
DIMS: Final = 32
MODEL: Final = "small"
UPSTREAM: Final = "text-embedding-3-small"
SMALL_WINDOW: Final = ("--batch", "32", "--concurrency", "4")
WINDOW_ROWS: Final = 2_048


def texts(rows: int) -> list[str]:
    return [f"passage {number} of the handbook, käse" for number in range(rows)]


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def documents(rows: int) -> list[dict[str, object]]:
    return [{"doc": f"d-{at}", "text": text, "page": at} for at, text in enumerate(texts(rows))]


def command(*arguments: str | Path) -> tuple[list[str], dict[str, str]]:
    roots = os.pathsep.join(str(ROOT / name) for name in ("api", "worker", "shared", "cli"))
    return [*embedpool_command(), "embed", *map(str, arguments)], {"PYTHONPATH": roots}


def embed(
    pool: Pool, *arguments: str | Path, model: str = MODEL, typed: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run `embedpool embed …` against the pool to its end."""
    flags = ["--url", pool.url, "--model", model]
    flags += ["--dimensions", str(DIMS)] if model == MODEL else []
    line, environ = command(*arguments, *flags)
    return subprocess.run(
        line, input=typed, capture_output=True, check=False, timeout=90,
        env={**os.environ, **environ},
    )  # fmt: skip


def expected(rows: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The vectors the provider gives these texts."""
    found = b"".join(vector_of(text, DIMS, UPSTREAM) for text in rows)
    return np.frombuffer(found, "<f4").reshape(len(rows), DIMS)


def vectors(table: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    flat = table.column("embedding").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32).reshape(table.num_rows, -1)  # type: ignore[no-any-return]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def documents_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jsonl(tmp_path_factory.mktemp("embed") / "documents.jsonl", documents(ROWS))


def written_as(kind: str, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Write the documents in one of the formats; tell which flags read them."""
    rows = documents(ROWS)
    path = folder / f"in.{kind}"
    flags: tuple[str, ...] = ("--id", "doc", "--carry", "page")
    match kind:
        case "jsonl":
            jsonl(path, rows)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(jsonl(folder / "plain", rows).read_bytes()))
        case "jsonl.zst":
            with pa.CompressedOutputStream(str(path), "zstd") as file:
                file.write(jsonl(folder / "plain", rows).read_bytes())
        case "csv":
            lines = [f'{row["page"]},"{row["text"]}",{row["doc"]}\r\n' for row in rows]
            path.write_text("page,text,doc\r\n" + "".join(lines), newline="")
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3_000)
        case _:
            path.write_text("".join(f"{text}\n" for text in texts(ROWS)))
            flags = ()
    return path, flags


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet", "txt"])
def test_every_format_comes_back_in_order_with_its_ids(
    pool: Pool, provider: FakeProvider, tmp_path: Path, kind: str
) -> None:
    path, flags = written_as(kind, tmp_path)

    ended = embed(pool, path, "-o", tmp_path / "out.parquet", *flags)

    assert ended.returncode == 0, ended.stderr
    assert b"20,000 rows in = 20,000 out + 0 rejected" in ended.stderr
    table = pq.read_table(tmp_path / "out.parquet")
    ids = range(ROWS) if kind == "txt" else [f"d-{at}" for at in range(ROWS)]
    assert table.column("id").to_pylist() == list(ids)
    if flags:
        pages: list[Any] = list(range(ROWS))
        assert table.column("page").to_pylist() == (
            [str(page) for page in pages] if kind == "csv" else pages
        )
    assert np.array_equal(vectors(table), expected(texts(ROWS)))
    assert sorted(one.name for one in tmp_path.iterdir() if "out" in one.name) == ["out.parquet"]


def test_lines_of_json_come_out_as_they_went_in(
    pool: Pool, provider: FakeProvider, documents_file: Path, tmp_path: Path
) -> None:
    ended = embed(
        pool, documents_file, "-o", tmp_path / "out.jsonl", "--id", "doc", "--carry", "page"
    )

    assert ended.returncode == 0, ended.stderr
    rows = lines_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [f"d-{at}" for at in range(ROWS)]
    assert [row["page"] for row in rows] == list(range(ROWS))
    found = np.array([row["embedding"] for row in rows], np.float32)
    assert np.array_equal(found, expected(texts(ROWS)))


def test_a_folder_of_shards_has_a_manifest(
    pool: Pool, provider: FakeProvider, documents_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"

    ended = embed(pool, documents_file, "-o", out, "--shard-rows", "7000", "--dtype", "float16")

    assert ended.returncode == 0, ended.stderr
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert [shard["rows"] for shard in manifest["shards"]] == [7_000, 7_000, 6_000]
    assert (manifest["rows"], manifest["dimensions"], manifest["dtype"]) == (ROWS, DIMS, "float16")
    tables = [pq.read_table(out / shard["file"]) for shard in manifest["shards"]]
    assert pa.types.is_float16(tables[0].schema.field("embedding").type.value_type)
    table = pa.concat_tables(tables)
    assert table.column("id").to_pylist() == list(range(ROWS))
    halves = expected(texts(ROWS)).astype(np.float16)
    assert np.array_equal(vectors(table), halves.astype(np.float32))


def test_killed_at_any_point_it_goes_on_and_embeds_at_most_a_window_again(
    pool: Pool, provider: FakeProvider, documents_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    arguments = (
        documents_file, "-o", out, "--url", pool.url, "--model", MODEL, "--dimensions", str(DIMS),
        "--id", "doc", *SMALL_WINDOW,
    )  # fmt: skip
    provider.behave(Behaviour(latency_s=0.02))
    draw = random.Random(17)

    for kill, share in enumerate(sorted(draw.uniform(0.05, 0.9) for _ in range(3))):
        line, environ = command(*arguments)
        with Program(line, log=tmp_path / f"log-{kill}", env=environ) as run:
            enough = int(share * ROWS)
            run.wait_until(
                lambda enough=enough: provider.totals.items > enough,  # type: ignore[misc]
                patience_s=60,
                what="some rows embedded",
            )
            run.signal(signal.SIGKILL)
            run.wait()
    ended = embed(pool, documents_file, "-o", out, "--id", "doc", *SMALL_WINDOW)

    assert ended.returncode == 0, ended.stderr
    assert b"going on after" in ended.stderr
    table = pq.read_table(out)
    assert table.column("id").to_pylist() == [f"d-{at}" for at in range(ROWS)]
    assert np.array_equal(vectors(table), expected(texts(ROWS)))
    assert provider.totals.items <= ROWS + 3 * WINDOW_ROWS


def test_an_interrupted_run_says_so_and_goes_on(
    pool: Pool, provider: FakeProvider, documents_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    provider.behave(Behaviour(latency_s=0.05))
    line, environ = command(
        documents_file, "-o", out, "--url", pool.url, "--model", MODEL, "--dimensions", str(DIMS),
        *SMALL_WINDOW,
    )  # fmt: skip

    with Program(line, log=tmp_path / "log", env=environ) as run:
        run.wait_until(lambda: provider.totals.items > 3_000, patience_s=30, what="a beginning")
        code = run.stop()
        said = run.output
    provider.behave()
    ended = embed(pool, documents_file, "-o", out, *SMALL_WINDOW)

    assert code == 130
    assert "interrupted" in said
    assert "the same command goes on from here" in said
    assert ended.returncode == 0, ended.stderr
    assert pq.read_table(out).column("id").to_pylist() == list(range(ROWS))


def test_rows_that_fail_are_rejected_with_the_reason_and_nobody_else_is(
    pool: Pool, provider: FakeProvider, tmp_path: Path
) -> None:
    poison = "a text the provider refuses"
    provider.behave(Behaviour(status=400, message="not this one", text=poison))
    rows: list[object] = list(documents(600))
    bad = {
        17: "{not json", 100: {"doc": "e", "text": ""}, 200: {"doc": "n", "text": None},
        300: {"doc": "m"}, 400: {"doc": "p", "text": poison}, 500: {"text": "without an id"},
        599: {"doc": "l", "text": [1]},
    }  # fmt: skip
    for at, row in bad.items():
        rows[at] = row
    path = jsonl(tmp_path / "in.jsonl", rows)

    ended = embed(pool, path, "-o", tmp_path / "out.parquet", "--id", "doc")

    assert ended.returncode == 0, ended.stderr
    assert b"600 rows in = 593 out + 7 rejected" in ended.stderr
    rejects = lines_of(tmp_path / "out.parquet.rejects.jsonl")
    assert {reject["row"]: reject["line"] for reject in rejects} == {at: at + 1 for at in bad}
    reasons = {reject["row"]: reject["reason"] for reject in rejects}
    assert "not JSON" in reasons[17]
    assert "empty" in reasons[100]
    assert "null" in reasons[200]
    assert "no text" in reasons[300]
    assert "not this one" in reasons[400]
    assert "no doc" in reasons[500]
    assert "an array" in reasons[599]
    ids = pq.read_table(tmp_path / "out.parquet").column("id").to_pylist()
    assert ids == [f"d-{at}" for at in range(600) if at not in bad]


def test_refusals_for_a_while_are_waited_out(
    pool: Pool, provider: FakeProvider, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "in.jsonl", documents(500))
    provider.behave(Behaviour(status=500, calls=6))

    ended = embed(pool, path, "-o", tmp_path / "out.jsonl")

    assert ended.returncode == 0, ended.stderr
    assert len(lines_of(tmp_path / "out.jsonl")) == 500


def test_money_ends_a_run_cleanly_and_more_of_it_goes_on(
    pool: Pool, provider: FakeProvider, documents_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"

    first = embed(pool, documents_file, "-o", out, "--max-usd", "0.001", "--batch", "64")
    at_first = provider.totals
    second = embed(pool, documents_file, "-o", out, "--batch", "64")

    assert first.returncode == 1
    assert b"--max-usd is reached" in first.stderr
    assert ROWS / 10 < at_first.items < ROWS
    assert at_first.tokens * 0.02e-6 <= 0.001
    assert second.returncode == 0, second.stderr
    assert pq.read_table(out).column("id").to_pylist() == list(range(ROWS))
    assert provider.totals.items == ROWS


def test_a_dry_run_counts_and_asks_no_provider(
    pool: Pool, provider: FakeProvider, documents_file: Path
) -> None:
    ended = embed(pool, documents_file, "--dry-run")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(b"20,000 rows, 0 of them cannot be embedded")
    assert b"tokens as cl100k_base counts" in ended.stdout
    assert b"with small" in ended.stdout
    assert provider.totals.calls == 0


def test_from_standard_input_to_standard_output(pool: Pool, provider: FakeProvider) -> None:
    typed = b"".join(b'{"text":"t%d","id":%d}\n' % (at, at) for at in range(3_000)) + b"nonsense\n"

    ended = embed(pool, "-", "-o", "-", "--id", "id", typed=typed)

    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["id"] for row in rows] == list(range(3_000))
    assert b"standard input and standard output cannot be resumed" in ended.stderr
    assert b'"row":3000' in ended.stderr


def test_whoever_stops_reading_ends_it_without_a_trace_back(
    pool: Pool, provider: FakeProvider, documents_file: Path
) -> None:
    line, environ = command(documents_file, "-o", "-", "--url", pool.url, "--model", "wordllama")

    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environ}
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read()

    assert run.returncode == 1
    assert b"Broken pipe" in said
    assert b"Traceback" not in said


def test_what_another_command_left_is_not_continued(
    pool: Pool, provider: FakeProvider, tmp_path: Path
) -> None:
    path, out = jsonl(tmp_path / "in.jsonl", documents(4_000)), tmp_path / "out.parquet"
    embed(pool, path, "-o", out, "--max-usd", "0.0001", "--batch", "64")

    other = embed(pool, path, "-o", out, "--id", "doc")
    path.write_text(path.read_text() + '{"text": "one more"}\n')
    grown = embed(pool, path, "-o", out)
    anew = embed(pool, path, "-o", out, "--restart")
    again = embed(pool, path, "-o", out)

    assert other.returncode == 2
    assert b"--id" in other.stderr
    assert grown.returncode == 2
    assert b"inputs" in grown.stderr
    assert anew.returncode == 0, anew.stderr
    assert pq.read_table(out).num_rows == 4_001
    assert again.returncode == 2
    assert b"exists" in again.stderr


def test_a_model_nobody_serves_and_a_pool_nobody_runs_end_it_at_once(
    pool: Pool, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "in.jsonl", documents(3))

    unknown = embed(pool, path, "-o", tmp_path / "out.jsonl", model="nonesuch")
    line, environ = command(path, "-o", tmp_path / "out.jsonl", "--url", "http://127.0.0.1:9")
    nobody = subprocess.run(
        line, capture_output=True, check=False, timeout=30, env={**os.environ, **environ}
    )

    assert (unknown.returncode, nobody.returncode) == (2, 2)
    assert b"nonesuch" in unknown.stderr
    assert b"cannot reach a pool" in nobody.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.jsonl"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk of its own needs the right to mount one")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_said_and_room_lets_it_go_on(
    pool: Pool, provider: FakeProvider, documents_file: Path, tiny_disk: Path
) -> None:
    out = tiny_disk / "out.parquet"

    full = embed(pool, documents_file, "-o", out, *SMALL_WINDOW)
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    ended = embed(pool, documents_file, "-o", out, *SMALL_WINDOW)

    assert full.returncode == 1
    assert b"No space left on device" in full.stderr
    assert ended.returncode == 0, ended.stderr
    assert b"going on after" in ended.stderr
    table = pq.read_table(out)
    assert table.column("id").to_pylist() == list(range(ROWS))
    assert np.array_equal(vectors(table), expected(texts(ROWS)))


def test_with_a_pool_of_its_own_nothing_is_left_behind(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "in.jsonl", documents(500))
    line, environ = command(path, "-o", tmp_path / "out.parquet", "--local", "--id", "doc")

    with Program(line, log=tmp_path / "log", env=environ) as run:
        code = run.wait(patience_s=90)
        wait_until(lambda: not run.members(), patience_s=10, what="no process left")
        said = run.output

    assert code == 0, said
    assert "500 rows in = 500 out" in said
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("embedding").type.list_size == 256
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.jsonl", "log", "out.parquet"]
