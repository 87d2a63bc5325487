from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from embedpool_cli.embed.answers import Verdict
from embedpool_cli.embed.asking import Stopped
from embedpool_cli.embed.budget import Budget
from embedpool_cli.embed.completion import Completion
from embedpool_cli.embed.growing import CARRIED
from embedpool_cli.embed.journal import Progress
from embedpool_cli.embed.lines import Broken
from embedpool_cli.embed.order import Output, OutputFormat
from embedpool_cli.embed.rows import Block, Done
from embedpool_cli.embed.run import MIN_WINDOW_ROWS, Run, Terms
from embedpool_cli.embed.store import FolderStore
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.work_folder import WorkFolder
from unit.cli.embed.embed_blocks import a_block, blocks_of
from unit.cli.embed.fake_asks import FakeAsks, refusing, vector_of

TERMS = Terms(batch=4, concurrency=3, patience_s=1.0, dtype="float32")
MODEL = "m"
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""As Arrow writes it."""


PARQUET = OutputFormat.PARQUET


def output_at(folder: Path, shard_rows: int | None = None, kind: OutputFormat = PARQUET) -> Output:
    return Output(
        path=str(folder / f"out.{kind.value}"), format=kind, dtype="float32",
        shard_rows=shard_rows, rejects=str(folder / "rejects.jsonl"),
    )  # fmt: skip


class Killed(BaseException):
    """Stands for a kill -9: nothing after it runs."""


class Mortal(FolderStore):
    """A store whose process dies when it has been given so many rows: at the latest moment,
    with everything written and nothing journalled.
    """

    lives_for_rows = 1 << 60

    @override
    def _written(self, done: Sequence[Done], now: Progress) -> Progress:
        written = super()._written(done, now)
        if now.rows_in > self.lives_for_rows:
            raise Killed
        return written


def run_once(
    folder: WorkFolder, output: Output, pool: FakeAsks, blocks: Sequence[Block],
    *, dies_after: int | None = None, budget: Budget | None = None,
) -> Progress:  # fmt: skip
    store = Mortal(folder, output)
    if dies_after is not None:
        store.lives_for_rows = dies_after
    rest = rows_from(blocks, store.progress.rows_in)

    async def main() -> None:
        await Run(pool, store, budget or Budget(None, None), TERMS).run(rest)

    try:
        asyncio.run(main())
        store.note(is_complete=True)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        store.close()
    return store.progress


async def run_with(store: FolderStore, blocks: Iterator[Block]) -> None:
    await Run(FakeAsks(), store, Budget(None, None), TERMS).run(blocks)


def rows_from(blocks: Sequence[Block], skip: int) -> Iterator[Block]:
    """The blocks a reader gives that passes over the first rows."""
    texts = [text for block in blocks for text in block.texts]
    for start in range(skip, len(texts), 5):
        yield a_block(texts[start : start + 5], first_row=start)


def completed(folder: WorkFolder, output: Output) -> None:
    store = FolderStore(folder, output)
    typing = Typing(("id",), store.progress.kinds, None)
    try:
        Completion(folder.path, output, typing, model=MODEL).finish(store)
    finally:
        store.close()
    folder.remove()


def ids_and_vectors(path: Path) -> list[tuple[int, bytes]]:
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        return [(row["id"], np.array(row["embedding"], "<f4").tobytes()) for row in rows]
    table = pq.read_table(path)
    vectors = [np.array(one, "<f4").tobytes() for one in table.column("embedding").to_pylist()]
    return list(zip(table.column("id").to_pylist(), vectors, strict=True))


def wanted(texts: Sequence[str]) -> list[tuple[int, bytes]]:
    return [(at, vector_of(text)) for at, text in enumerate(texts) if text]


def killed(*_: object) -> None:
    raise Killed


OUTPUTS = st.tuples(st.none() | st.integers(1, 40), st.sampled_from(OutputFormat))
TEXTS = st.lists(st.sampled_from(["", *(f"t{at}" for at in range(30))]), max_size=120)


@settings(max_examples=60)
@given(TEXTS, st.lists(st.integers(0, 120), max_size=3), OUTPUTS)
def test_killed_anywhere_and_gone_on_every_row_is_there_once_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    kills: list[int],
    as_what: tuple[int | None, OutputFormat],
) -> None:
    folder = tmp_path_factory.mktemp("run")
    output, blocks = output_at(folder, *as_what), blocks_of([texts])
    pool = FakeAsks()

    with WorkFolder(output) as work:
        for rows in sorted(kills):
            try:
                run_once(work, output, pool, blocks, dies_after=rows)
            except Killed:
                continue
        progress = run_once(work, output, pool, blocks)
        completed(work, output)

    out = Path(output.path)
    shards = [out] if output.shard_rows is None else sorted(out.glob("shard-*"))
    found = [row for shard in shards for row in ids_and_vectors(shard)]
    assert found == wanted(texts)
    assert (progress.rows_in, progress.rows_out) == (len(texts), len(found))
    rejects = folder / "rejects.jsonl"
    lines = rejects.read_bytes().splitlines() if rejects.exists() else []
    assert len(lines) == len(texts) - len(found) == progress.rejected
    assert not work.path.exists()


def test_a_completion_that_breaks_off_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"t{at}" for at in range(100)]
    output = output_at(tmp_path, shard_rows=30)
    with WorkFolder(output) as work:
        run_once(work, output, FakeAsks(), blocks_of([texts]))
        with monkeypatch.context() as patched:
            patched.setattr(Completion, "_write_manifest", killed)
            with pytest.raises(Killed):
                completed(work, output)
        with (work.path / "out" / "shard-00001.parquet").open("ab") as file:
            file.write(b"half a directory")
        completed(work, output)

    shards = sorted(Path(output.path).glob("shard-*.parquet"))
    assert [row for shard in shards for row in ids_and_vectors(shard)] == wanted(texts)


@pytest.mark.parametrize("lost", ["out", CARRIED])
def test_a_file_that_lost_rows_is_never_passed_off_as_whole(tmp_path: Path, lost: str) -> None:
    output = output_at(tmp_path)
    with WorkFolder(output) as work:
        run_once(work, output, FakeAsks(), blocks_of([["a", "b"]]))
        (work.path / lost).write_bytes(b"")

        with pytest.raises(Broken, match="shorter than its journal"):
            completed(work, output)

    assert not Path(output.path).exists()


def test_a_file_of_other_bytes_is_never_passed_off_as_whole(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    with WorkFolder(output) as work:
        run_once(work, output, FakeAsks(), blocks_of([["a", "b"]]))
        file = work.path / "out"
        file.write_bytes(bytes(file.stat().st_size))

        with pytest.raises(Broken, match="2 rows were journalled and 0 are"):
            completed(work, output)

    assert not Path(output.path).exists()


def test_carried_rows_that_are_lost_are_missed(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    with WorkFolder(output) as work:
        run_once(work, output, FakeAsks(), blocks_of([["a", "b"]]))
        carried = work.path / CARRIED
        size_bytes = carried.stat().st_size
        empty = a_block([]).carried.schema.serialize().to_pybytes()
        carried.write_bytes((empty + END_OF_STREAM).ljust(size_bytes, b"\0"))

        with pytest.raises(Broken, match=r"2 rows were journalled and 0 are in carried\.arrow"):
            completed(work, output)


def test_a_file_shorter_than_its_journal_is_not_written_on(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    texts = [f"t{at}" for at in range(60)]
    with WorkFolder(output) as work:
        with pytest.raises(Killed):
            run_once(work, output, FakeAsks(), blocks_of([texts]), dies_after=40)
        (work.path / "out").write_bytes(b"")

        with pytest.raises(Broken, match="--restart"):
            run_once(work, output, FakeAsks(), blocks_of([texts]))


def test_equal_texts_on_their_way_are_sent_once(tmp_path: Path) -> None:
    pool, output = FakeAsks(), output_at(tmp_path)
    with WorkFolder(output) as work:
        run_once(work, output, pool, blocks_of([["a", "b", "a"], ["b", "c"]]))

    assert sorted(pool.texts) == ["a", "b", "c"]


def test_no_more_than_a_window_is_read_ahead_of_what_is_kept(tmp_path: Path) -> None:
    read = 0
    pool, output = FakeAsks(), output_at(tmp_path)
    furthest = 0

    with WorkFolder(output) as work:
        store = FolderStore(work, output)

        def blocks() -> Iterator[Block]:
            nonlocal read, furthest
            for start in range(0, 20_000, 500):
                yield a_block([f"t{at}" for at in range(start, start + 500)], first_row=start)
                read += 500
                furthest = max(furthest, read - store.progress.rows_in)

        async def main() -> None:
            await Run(pool, store, Budget(None, None), TERMS).run(blocks())

        asyncio.run(main())
        store.close()

    assert read == 20_000
    assert furthest <= MIN_WINDOW_ROWS + 4 * 500


def test_money_used_up_keeps_all_that_was_paid(tmp_path: Path) -> None:
    texts = [f"t{at:03d}" for at in range(200)]
    pool = FakeAsks(pico_usd_per_byte=1_000)
    output = output_at(tmp_path)
    budget = Budget(100 * 4 * 1_000, price_per_token_pico_usd=1_000.0)

    with WorkFolder(output) as work:
        with pytest.raises(Stopped, match="--max-usd is reached"):
            run_once(work, output, pool, blocks_of([texts]), budget=budget)
        kept = FolderStore(work, output)
        assert kept.progress.rows_out == len(pool.texts)
        assert 80 <= kept.progress.rows_out <= 100
        assert kept.progress.spent_pico_usd == len(pool.texts) * 4 * 1_000
        kept.close()


def test_a_stop_keeps_what_is_before_it(tmp_path: Path) -> None:
    texts = [f"t{at}" for at in range(300)]
    output = output_at(tmp_path)
    pool = FakeAsks(refusing("t200", Verdict.STOP))

    with WorkFolder(output) as work:
        with pytest.raises(Stopped, match="no"):
            run_once(work, output, pool, blocks_of([texts]))
        kept = FolderStore(work, output)
        assert 150 <= kept.progress.rows_in <= 200
        kept.close()


def test_a_reader_that_fails_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    output = output_at(tmp_path)

    def blocks() -> Iterator[Block]:
        yield a_block(["a"])
        raise Broken("line 2 is no CSV")

    with WorkFolder(output) as work:
        store = FolderStore(work, output)
        with pytest.raises(Broken, match="line 2"):
            asyncio.run(run_with(store, blocks()))
        store.close()


def test_a_write_that_fails_is_the_last(tmp_path: Path) -> None:
    output = output_at(tmp_path)

    class Full(FolderStore):
        tries = 0

        @override
        def _written(self, done: Sequence[Done], now: Progress) -> Progress:
            self.tries += 1
            raise OSError(28, "No space left on device")

    with WorkFolder(output) as work:
        store = Full(work, output)
        rows = rows_from(blocks_of([[f"t{at}" for at in range(99)]]), 0)
        with pytest.raises(OSError, match="No space"):
            asyncio.run(run_with(store, rows))
        assert store.tries == 1
        store.close()
