"""Files that grew are read like files that were written at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedpool_cli.embed import parquet_end, vector_pages
from embedpool_cli.embed.carried import batches
from embedpool_cli.embed.growing import CARRIED, WHOLE, Growing
from embedpool_cli.embed.journal import Progress
from embedpool_cli.embed.lines import Broken
from embedpool_cli.embed.order import Output, OutputFormat
from embedpool_cli.embed.parquet_end import complete
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.vector_rows import VectorRows, vector_type

COLUMNS = {
    "id": pa.int64(), "flag": pa.bool_(), "share": pa.float64(), "words": pa.string(),
    "raw": pa.large_binary(), "tags": pa.list_(pa.string()), "at": pa.timestamp("us", "UTC"),
    "place": pa.struct([("x", pa.int32()), ("y", pa.list_(pa.int8()))]),
}  # fmt: skip
VALUES = {
    "id": st.integers(-9, 9), "flag": st.booleans(), "share": st.floats(0, 1), "words": st.text(),
    "raw": st.binary(), "tags": st.lists(st.text(max_size=3), max_size=3),
    "at": st.integers(0, 10**15), "place": st.just({"x": 1}),
}  # fmt: skip


def output_of(dtype: str) -> Output:
    return Output(
        path="out.parquet", format=OutputFormat.PARQUET, dtype=dtype, shard_rows=None, rejects=None
    )


def grown(folder: Path, pieces: Sequence[Any], vectors: Any, dtype: str = "float32") -> None:
    """Write batches of carried columns with their vectors, as a run does."""
    growing = Growing(folder, output_of(dtype), Progress())
    row = 0
    for piece in pieces:
        some = [one.astype("<f4").tobytes() for one in vectors[row : row + piece.num_rows]]
        growing.add(VectorRows(piece, some, is_spelled=False), row)
        row += piece.num_rows
    growing.sync()
    growing.close()


def completed(folder: Path, schema: Any, vectors: Any, dtype: str = "float32") -> Path:
    path = folder / WHOLE
    typing = Typing(tuple(schema.names), (), schema)
    kind = vector_type(vectors.shape[1], dtype)
    complete(path, len(vectors), batches(folder / CARRIED), typing, kind)
    return path


def table_of(pieces: Sequence[Any], schema: Any, vectors: Any, dtype: str) -> Any:
    """The same as Arrow has it."""
    kind = vector_type(vectors.shape[1], dtype)
    numbers = pa.array(vectors.astype(dtype).reshape(-1), kind.value_type)
    column = pa.FixedSizeListArray.from_arrays(numbers, type=kind)
    field = pa.field("embedding", kind, nullable=False)
    return pa.Table.from_batches(pieces, schema).add_column(0, field, column)


def numbers(rows: int, dims: int) -> Any:
    return np.random.default_rng(rows * dims).standard_normal((rows, dims)).astype(np.float32)


@st.composite
def carried(draw: st.DrawFn) -> tuple[Any, list[Any]]:
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=4, unique=True))
    schema = pa.schema([(name, COLUMNS[name]) for name in names])
    pieces = []
    for rows in draw(st.lists(st.integers(1, 8), min_size=1, max_size=6)):
        columns = [
            pa.array(
                draw(st.lists(st.none() | VALUES[name], min_size=rows, max_size=rows)),
                COLUMNS[name],
            )
            for name in names
        ]
        pieces.append(pa.record_batch(columns, schema=schema))
    return schema, pieces


SHAPES = st.tuples(st.integers(1, 20), st.sampled_from(["float32", "float16"]))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(carried(), SHAPES, st.tuples(st.integers(1, 20), st.integers(1, 1_000)))
def test_it_is_read_like_a_file_that_was_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    columns: tuple[Any, list[Any]], shape: tuple[int, str], limits: tuple[int, int],
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("grown")
    group_rows, page_bytes = limits
    monkeypatch.setattr(parquet_end, "MAX_GROUP_ROWS", group_rows)
    monkeypatch.setattr(vector_pages, "PAGE_BYTES", page_bytes)
    (schema, pieces), (dims, dtype) = columns, shape
    vectors = numbers(sum(piece.num_rows for piece in pieces), dims)
    grown(folder, pieces, vectors, dtype)

    path = completed(folder, schema, vectors, dtype)

    expected = table_of(pieces, schema, vectors, dtype)
    table = pq.read_table(path)
    assert table.schema.equals(_as_read(expected, folder).schema, check_metadata=True)
    assert table.equals(expected.cast(table.schema))
    for name in table.schema.names:
        assert pq.read_table(path, columns=[name]).equals(table.select([name]))
        assert ds.dataset(path).to_table(columns=[name]).equals(table.select([name]))
    batch_rows = max(1, len(vectors) // 3)
    assert pa.Table.from_batches(pq.ParquetFile(path).iter_batches(batch_rows)).equals(table)
    assert pq.ParquetFile(path).metadata.num_rows == len(vectors)
    assert _group_rows(path) == _gathered([piece.num_rows for piece in pieces], group_rows)


def _as_read(table: Any, folder: Path) -> Any:
    pq.write_table(table, folder / "at_once.parquet")
    return pq.read_table(folder / "at_once.parquet")


def _group_rows(path: Path) -> list[int]:
    metadata = pq.ParquetFile(path).metadata
    return [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]


def _gathered(pieces: Sequence[int], most: int) -> list[int]:
    groups = [0]
    for rows in pieces:
        if groups[-1] >= most:
            groups.append(0)
        groups[-1] += rows
    return groups


def ids(*counts: int) -> list[Any]:
    rows = list(accumulate(counts, initial=0))
    return [
        pa.record_batch([pa.array(range(start, stop), pa.int64())], names=["id"])
        for start, stop in pairwise(rows)
    ]


def test_readers_that_share_a_file_out_find_every_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_end, "MAX_GROUP_ROWS", 100)
    vectors = numbers(1_000, 64)
    pieces = ids(*[100] * 10)
    grown(tmp_path, pieces, vectors)

    path = completed(tmp_path, pieces[0].schema, vectors)

    size = path.stat().st_size
    metadata = pq.ParquetFile(path).metadata
    middles = []
    for at in range(metadata.num_row_groups):
        group = metadata.row_group(at)
        columns = [group.column(number) for number in range(group.num_columns)]
        offset = columns[0].data_page_offset
        middles.append(offset + sum(column.total_compressed_size for column in columns) // 2)
    assert len(middles) == 10
    assert middles == sorted(set(middles))
    assert middles[-1] < size


def test_row_groups_have_statistics_of_what_is_carried_and_their_true_sizes(
    tmp_path: Path,
) -> None:
    vectors = numbers(50, 8)
    pieces = ids(20, 30)
    grown(tmp_path, pieces, vectors)

    path = completed(tmp_path, pieces[0].schema, vectors)

    group = pq.ParquetFile(path).metadata.row_group(0)
    assert (group.column(1).statistics.min, group.column(1).statistics.max) == (0, 49)
    assert pq.read_table(path, filters=[("id", ">=", 45)]).num_rows == 5
    sizes = [group.column(at).total_uncompressed_size for at in range(2)]
    assert group.total_byte_size == sum(sizes)
    assert group.column(0).num_values == 50 * 8
    assert group.column(0).compression == "UNCOMPRESSED"


def test_large_carried_values_make_smaller_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_end, "MAX_GROUP_BYTES", 10_000)
    vectors = numbers(40, 2)
    texts = ["x" * 1_000] * 10
    pieces = [pa.record_batch([pa.array(texts)], names=["id"]) for _ in range(4)]
    grown(tmp_path, pieces, vectors)

    assert _group_rows(completed(tmp_path, pieces[0].schema, vectors)) == [10] * 4


def test_completed_again_it_is_the_same_file(tmp_path: Path) -> None:
    vectors = numbers(50, 8)
    pieces = ids(20, 30)
    grown(tmp_path, pieces, vectors)
    whole = completed(tmp_path, pieces[0].schema, vectors).read_bytes()

    assert completed(tmp_path, pieces[0].schema, vectors).read_bytes() == whole


def test_without_a_row_it_is_a_file_of_columns(tmp_path: Path) -> None:
    grown(tmp_path, [], numbers(0, 1))
    typing = Typing(("id",), (), pa.schema([("id", pa.int64())]))

    complete(tmp_path / WHOLE, 0, iter(()), typing, vector_type(None, "float32"))

    table = pq.read_table(tmp_path / WHOLE)
    assert (table.num_rows, table.schema.names) == (0, ["embedding", "id"])


def test_rows_that_are_not_there_are_missed(tmp_path: Path) -> None:
    vectors = numbers(50, 8)
    pieces = ids(20, 30)
    grown(tmp_path, pieces[:1], vectors)

    with pytest.raises(Broken, match="50 rows were journalled and 20 are in"):
        completed(tmp_path, pieces[0].schema, vectors)
