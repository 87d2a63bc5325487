"""Makes OUT whole, once every row is in it, and puts it in its place.

Invariants
- OUT appears whole or not at all; an end anywhere on the way loses nothing that was paid.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from embedpool_cli.embed.carried import batches
from embedpool_cli.embed.growing import CARRIED, WHOLE, Growing, shard_path
from embedpool_cli.embed.journal import Progress, sync_folder
from embedpool_cli.embed.lines import Broken
from embedpool_cli.embed.order import Output, OutputFormat
from embedpool_cli.embed.parquet_end import complete, with_vectors
from embedpool_cli.embed.store import FolderStore
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.vector_rows import vector_type
from embedpool_cli.embed.work_folder import REJECTS

MANIFEST: Final = "manifest.json"


class Completion:
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
        # It cuts off what came after the last line of the journal, and begins what has no row.
        Growing(self._folder, self._output, progress).close()
        if self._output.format is OutputFormat.PARQUET:
            carried = batches(self._folder / CARRIED)
            kind = vector_type(progress.dims, self._output.dtype)
            for shard, rows in enumerate(self._rows_of_shards(progress)):
                path = shard_path(self._folder, self._output, shard)
                complete(path, rows, _first(carried, rows), self._typing, kind)
        if self._output.shard_rows is not None:
            self._write_manifest(progress)

    def _rows_of_shards(self, progress: Progress) -> Iterator[int]:
        most = self._output.shard_rows or progress.rows_out
        for shard in range(progress.shard + 1):
            yield min(most, progress.rows_out - shard * most)

    def _write_manifest(self, progress: Progress) -> None:
        kind = vector_type(progress.dims, self._output.dtype)
        schema = with_vectors(self._typing.schema, kind)
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
        for shard, rows in enumerate(self._rows_of_shards(progress)):
            path = shard_path(self._folder, self._output, shard)
            yield {"file": path.name, "rows": rows, "bytes": path.stat().st_size}

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


def _first(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """Take the batches of so many rows; raises `Broken` where there are no such."""
    left = rows
    while left > 0 and (batch := next(batches, None)) is not None:
        left -= batch.num_rows
        yield batch
    if left:
        raise Broken(f"{rows} rows were journalled and {rows - left} are in {CARRIED}")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
