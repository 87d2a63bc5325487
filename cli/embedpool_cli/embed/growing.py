"""OUT while it grows: vectors are written where they stay, as they come.

A Parquet file gets its vectors' pages now, and its other columns and its directory at the end. A
file of JSON lines is whole at every line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from embedpool_cli.embed.append_file import AppendFile
from embedpool_cli.embed.carried import CarriedFile
from embedpool_cli.embed.footer import MAGIC
from embedpool_cli.embed.journal import Progress, sync_folder
from embedpool_cli.embed.json_rows import json_lines
from embedpool_cli.embed.order import Output, OutputFormat
from embedpool_cli.embed.vector_pages import page_head, rows_of_page
from embedpool_cli.embed.vector_rows import NUMBER_BYTES, VectorRows, as_dtype
from embedpool_shared.vectors import FLOAT_BYTES

WHOLE: Final = "out"
CARRIED: Final = "carried.arrow"
BEGINNING: Final = {OutputFormat.PARQUET: MAGIC, OutputFormat.JSONL: b""}


def shard_path(folder: Path, output: Output, number: int) -> Path:
    """Name the file of a shard; where there are none, the only one."""
    if output.shard_rows is None:
        return folder / WHOLE
    return folder / WHOLE / f"shard-{number:05d}.{output.format.value}"


class Growing:
    """The shard that is being written, and what is carried."""

    def __init__(self, folder: Path, output: Output, now: Progress) -> None:
        """Go on where `now` ends; raises `OSError`, `Broken`."""
        self.shard = now.shard
        self._folder = folder
        self._output = output
        self._file = self._opened(now.shard_bytes)
        self._carried: CarriedFile | None = None
        if output.format is OutputFormat.PARQUET:
            self._carried = CarriedFile(folder / CARRIED, now.carried_bytes)
        sync_folder(folder)

    @property
    def shard_bytes(self) -> int:
        """How long the shard is."""
        return self._file.size_bytes

    @property
    def carried_bytes(self) -> int:
        """How long the file of what is carried is."""
        return self._carried.size_bytes if self._carried is not None else 0

    def add(self, rows: VectorRows, rows_before: int) -> None:
        """Write rows; a shard that is full is followed by the next. Raises `OSError`."""
        most = self._output.shard_rows
        while most is not None and rows_before + len(rows) > (self.shard + 1) * most:
            room = (self.shard + 1) * most - rows_before
            if room:
                self._write(rows.piece(0, room))
            self._begin_next()
            rows = rows.piece(room, len(rows))
            rows_before += room
        self._write(rows)

    def sync(self) -> None:
        """Wait until all of it is on the disk; raises `OSError`."""
        self._file.sync()
        if self._carried is not None:
            self._carried.sync()

    def close(self) -> None:
        """Close every file."""
        self._file.close()
        if self._carried is not None:
            self._carried.close()

    def _write(self, rows: VectorRows) -> None:
        dtype = self._output.dtype
        if self._carried is None:
            for lines in json_lines(rows, dtype):
                self._file.add(lines)
        else:
            self._file.add(*_pages(rows, dtype))
            self._carried.add_batch(rows.carried)

    def _begin_next(self) -> None:
        self._file.sync()
        self._file.close()
        self.shard += 1
        self._file = self._opened(0)

    def _opened(self, size_bytes: int) -> AppendFile:
        path = shard_path(self._folder, self._output, self.shard)
        path.parent.mkdir(exist_ok=True)
        file = AppendFile(path, size_bytes)
        if not size_bytes:
            file.add(BEGINNING[self._output.format])
        sync_folder(path.parent)
        return file


def _pages(rows: VectorRows, dtype: str) -> Iterator[bytes | memoryview]:
    dims = len(rows.vectors[0]) // FLOAT_BYTES
    most = rows_of_page(dims, NUMBER_BYTES[dtype])
    for start in range(0, len(rows), most):
        vectors = rows.vectors[start : start + most]
        yield page_head(len(vectors), dims, NUMBER_BYTES[dtype])
        yield from as_dtype(vectors, dtype)
