"""Completes a Parquet file that holds the vectors' pages: the other columns, and the directory.

Invariants
- The vectors stay where they are; a completion that broke off is done anew.
- A carried batch was written along with pages of its own, so row groups end where pages do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from embedpool_cli.embed.footer import (
    MAGIC,
    TAIL_BYTES,
    VectorChunk,
    footer_bytes,
    joined,
    tail_of,
)
from embedpool_cli.embed.lines import Broken
from embedpool_cli.embed.rows import VECTOR
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.vector_pages import MAX_HEADER_BYTES, Page, page_from

MAX_GROUP_ROWS: Final = 65_536
MAX_GROUP_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class _Group:
    """A row group in the making: large enough to be read fast, small enough to be held."""

    offset: int
    carried: list[Any] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    carried_bytes: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes

    @property
    def is_full(self) -> bool:
        size_bytes = self.size_bytes + self.carried_bytes
        return self.rows >= MAX_GROUP_ROWS or size_bytes >= MAX_GROUP_BYTES


def with_vectors(carried: Any, kind: Any) -> Any:
    """Put the vectors' column in front of a schema's others."""
    return carried.insert(0, pa.field(VECTOR, kind, nullable=False))


def complete(path: Path, rows: int, carried: Iterable[Any], typing: Typing, kind: Any) -> None:
    """Complete the file of so many rows, and wait until it is on the disk.

    `kind` is the vectors' type. Raises `OSError`, `Broken`.
    """
    # Without vectors their length is open, and there is no page.
    dims = kind.list_size if rows else 1
    with path.open("r+b") as file:
        pages = _pages(file, path, rows, dims)
        end = len(MAGIC) + sum(page.size_bytes for page in pages)
        file.truncate(end)
        file.seek(end)
        chunks = [
            VectorChunk(group.rows, group.rows * dims, group.offset, group.size_bytes)
            for group in _written(file, _groups(carried, pages), typing)
        ]
        whole = joined(_empty(typing, kind), _cut_footer(file), chunks, end)
        file.write(tail_of(whole))
        file.flush()
        os.fsync(file.fileno())


def _pages(file: BinaryIO, path: Path, rows: int, dims: int) -> list[Page]:
    pages: list[Page] = []
    at, left = len(MAGIC), rows
    while left > 0:
        try:
            page = page_from(os.pread(file.fileno(), MAX_HEADER_BYTES, at), dims)
        except ValueError:
            break
        pages.append(page)
        at += page.size_bytes
        left -= page.rows
    if left:
        raise Broken(f"{rows} rows were journalled and {rows - left} are in {path}")
    return pages


def _groups(carried: Iterable[Any], pages: Sequence[Page]) -> Iterator[_Group]:
    ahead = iter(pages)
    group = _Group(len(MAGIC))
    for batch in carried:
        group.carried.append(batch)
        group.carried_bytes += batch.nbytes
        wanted = group.rows + batch.num_rows
        while group.rows < wanted:
            page = next(ahead)
            group.rows += page.rows
            group.size_bytes += page.size_bytes
        if group.is_full:
            yield group
            group = _Group(group.end)
    if group.rows:
        yield group


def _written(file: BinaryIO, groups: Iterable[_Group], typing: Typing) -> Iterator[_Group]:
    options = {"compression": "zstd", "write_page_index": False}
    with pq.ParquetWriter(file, typing.schema, **options) as writer:
        for group in groups:
            batches = [typing.typed(batch) for batch in group.carried]
            writer.write_table(pa.Table.from_batches(batches), group.rows)
            yield group


def _cut_footer(file: BinaryIO) -> bytes:
    """Take the footer off the end of a file."""
    end = file.seek(-TAIL_BYTES, os.SEEK_END)
    start = file.seek(end - footer_bytes(file.read(TAIL_BYTES)))
    footer = file.read(end - start)
    file.truncate(start)
    file.seek(start)
    return footer


def _empty(typing: Typing, kind: Any) -> bytes:
    """Write the footer of a file of all columns without a row."""
    file = BytesIO()
    pq.write_table(with_vectors(typing.schema, kind).empty_table(), file)
    return _cut_footer(file)
