"""Makes OUT of the parts, once every row is in them, and puts it in its place.

Invariants
- OUT appears whole or not at all; an end anywhere on the way loses nothing that was paid.
- A shard's part is removed when the shard is on disk, so only one of them is there twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol, Self

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embedpool_cli.embed.journal import Progress, sync_folder
from embedpool_cli.embed.json_rows import json_lines
from embedpool_cli.embed.lines import Broken
from embedpool_cli.embed.order import Output, OutputFormat
from embedpool_cli.embed.parts import batches, part_path
from embedpool_cli.embed.rows import VECTOR
from embedpool_cli.embed.store import FolderStore
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.vector_rows import vector_type
from embedpool_cli.embed.work_folder import REJECTS

MAX_GROUP_ROWS: Final = 65_536
MAX_GROUP_BYTES: Final = 64 * 1024 * 1024
WHOLE: Final = "out"
MANIFEST: Final = "manifest.json"


class Assembly:
    """The end of one run."""

    def __init__(self, folder: Path, output: Output, typing: Typing, *, model: str) -> None:
        self._folder = folder
        self._output = output
        self._typing = typing
        self._model = model
        self._whole = folder / WHOLE

    def finish(self, store: FolderStore) -> None:
        """Make OUT and put it in its place; what an earlier start has done is left as it is.

        Raises `OSError`, `Broken`.
        """
        if not store.progress.is_sealed:
            self._make(store.progress)
            store.note(is_sealed=True)
        self._place_rejects(store.progress)
        if self._whole.exists():
            self._whole.rename(self._output.path)
            sync_folder(Path(self._output.path).absolute().parent)

    def _make(self, progress: Progress) -> None:
        schema = self._typing.schema(vector_type(progress.dims, self._output.dtype))
        if self._output.shard_rows is None:
            self._write(self._whole, range(progress.part + 1), schema, progress.rows_out)
            return
        most = self._output.shard_rows
        self._whole.mkdir(exist_ok=True)
        for part in range(progress.part + 1):
            shard = self._whole / self._shard_name(part)
            if not shard.exists():
                rows = min(most, progress.rows_out - part * most)
                self._write(shard, range(part, part + 1), schema, rows)
            part_path(self._folder, part).unlink(missing_ok=True)
        self._write_manifest(progress, schema)

    def _write(self, path: Path, parts: range, schema: Any, rows: int) -> None:
        left = rows
        fresh = path.with_name(f"{path.name}.new")
        with self._writer(fresh, schema) as writer:
            for part in parts:
                for batch in batches(self._folder, part):
                    writer.add(batch)
                    left -= batch.num_rows
        if left:
            raise Broken(f"{rows} rows were journalled and {rows - left} are in {self._folder}")
        _sync(fresh)
        fresh.rename(path)
        sync_folder(path.parent)

    def _writer(self, path: Path, schema: Any) -> _Writer:
        if self._output.format is OutputFormat.JSONL:
            return _JsonWriter(path, self._typing)
        return _ParquetWriter(path, schema, self._typing)

    def _shard_name(self, part: int) -> str:
        return f"shard-{part:05d}.{self._output.format.value}"

    def _write_manifest(self, progress: Progress, schema: Any) -> None:
        manifest = {
            "model": self._model,
            "dimensions": progress.dims,
            "dtype": self._output.dtype,
            "rows": progress.rows_out,
            "rejected": progress.rejected,
            "columns": [{"name": field.name, "type": str(field.type)} for field in schema],
            "shards": list(self._shards(progress)),
        }
        path = self._whole / MANIFEST
        path.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        _sync(path)
        sync_folder(self._whole)

    def _shards(self, progress: Progress) -> Iterator[dict[str, Any]]:
        most = self._output.shard_rows or progress.rows_out
        for part in range(progress.part + 1):
            name = self._shard_name(part)
            rows = min(most, progress.rows_out - part * most)
            yield {"file": name, "rows": rows, "bytes": (self._whole / name).stat().st_size}

    def _place_rejects(self, progress: Progress) -> None:
        made = self._folder / REJECTS
        if self._output.rejects is None or not progress.rejected or not made.exists():
            return
        place = Path(self._output.rejects)
        # It may be on another disk: there a copy is made whole before it gets its name.
        fresh = place.with_name(f"{place.name}.new")
        shutil.copyfile(made, fresh)
        _sync(fresh)
        fresh.rename(place)
        sync_folder(place.absolute().parent)
        made.unlink()


class _Writer(Protocol):
    def add(self, batch: Any) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class _JsonWriter:
    def __init__(self, path: Path, typing: Typing) -> None:
        self._file = path.open("wb")
        self._typing = typing

    def add(self, batch: Any) -> None:
        for lines in json_lines(batch, self._typing):
            self._file.write(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _ParquetWriter:
    """Gathers batches into row groups large enough to be read fast, small enough to be held."""

    def __init__(self, path: Path, schema: Any, typing: Typing) -> None:
        others = [name for name in schema.names if name != VECTOR]
        # Vectors do not compress; looking for what repeats in them only costs time.
        self._writer = pq.ParquetWriter(
            path,
            schema,
            use_dictionary=others,
            compression=dict.fromkeys(others, "zstd") | {VECTOR: "none"},
            write_statistics=others,
        )
        self._typing = typing
        self._waiting: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, batch: Any) -> None:
        typed = self._typing.typed(batch)
        self._waiting.append(typed)
        self._rows += typed.num_rows
        self._bytes += typed.nbytes
        if self._rows >= MAX_GROUP_ROWS or self._bytes >= MAX_GROUP_BYTES:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), self._rows)
        self._waiting = []
        self._rows = self._bytes = 0


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
