"""Rows of Parquet, one row group's slice after the other; carried columns keep their types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from embedpool_cli.embed.blocks import MAX_BLOCK_CHARS, MAX_BLOCK_ROWS, as_arrow
from embedpool_cli.embed.lines import Broken
from embedpool_cli.embed.order import Fields
from embedpool_cli.embed.rows import EMPTY, NULL, Block, Fault

MIN_BLOCK_ROWS: Final = 16
NOT_UTF8: Final = Fault("the text is not UTF-8")


class ParquetInput:
    """One file."""

    def __init__(self, path: str, fields: Fields) -> None:
        """Open it; raises `Broken` where it is none, or lacks a column."""
        self._fields = fields
        self._path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except pa.ArrowInvalid as error:
            raise Broken(f"{path} is no Parquet: {error}") from None
        self.rows: int = self._file.metadata.num_rows
        self._schema = self._file.schema_arrow
        wanted = (fields.text, *(name for name in fields.carried if name is not None))
        missing = next((name for name in wanted if name not in self._schema.names), None)
        if missing is not None:
            have = ", ".join(self._schema.names)
            raise Broken(f"{path} has no column {missing}; it has {have}")
        self._wanted = list(dict.fromkeys(wanted))
        self._check_text()

    @property
    def carried_schema(self) -> Any:
        """The carried columns' types, as an Arrow schema."""
        names = self._fields.column_names
        types = [
            pa.int64() if name is None else _plain(self._schema.field(name).type)
            for name in self._fields.carried
        ]
        return pa.schema(list(zip(names, types, strict=True)))

    def blocks(self, first_row: int, skip: int) -> Iterator[Block]:
        """Read every row but the first `skip`; raises `Broken`."""
        place = 0
        try:
            for group in range(self._file.num_row_groups):
                rows = self._file.metadata.row_group(group).num_rows
                if place + rows > skip:
                    yield from self._group(group, first_row, place, max(skip, place))
                place += rows
        except (pa.ArrowException, OSError) as error:
            raise Broken(f"{self._path} cannot be read on: {error}") from None

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _group(self, group: int, first_row: int, place: int, start: int) -> Iterator[Block]:
        batches = self._file.iter_batches(MAX_BLOCK_ROWS, row_groups=[group], columns=self._wanted)
        for batch in batches:
            end = place + batch.num_rows
            if end > start:
                fresh = batch.slice(max(0, start - place))
                for piece in _bounded(fresh, self._fields.text):
                    at = end - fresh.num_rows
                    yield self._block(piece, first_row, at)
                    fresh = fresh.slice(piece.num_rows)
            place = end

    def _block(self, batch: Any, first_row: int, place: int) -> Block:
        texts, faults = _texts(batch.column(self._fields.text))
        row = first_row + place
        carried = self._carried(batch, row)
        if self._fields.id is not None:
            faults = _without_id(carried.column(0), self._fields.id) | faults
        return Block(
            first_row=row,
            source=self._path,
            places=range(place + 1, place + 1 + len(texts)),
            texts=["" if at in faults else text or "" for at, text in enumerate(texts)],
            faults=faults,
            carried=carried,
            kinds=(),
            source_share=(place + len(texts)) / max(1, self.rows),
        )

    def _carried(self, batch: Any, row: int) -> Any:
        schema = self.carried_schema
        columns = [
            as_arrow(range(row, row + batch.num_rows))
            if name is None
            else batch.column(name).cast(schema.field(number).type)
            for number, name in enumerate(self._fields.carried)
        ]
        return pa.record_batch(columns, schema=schema)

    def _check_text(self) -> None:
        kind = _plain(self._schema.field(self._fields.text).type)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise Broken(
                f"the column {self._fields.text} of {self._path} holds {kind}, it should hold "
                "strings: name another with --field"
            )


def _plain(kind: Any) -> Any:
    """Look through dictionaries, which one file may have and another not."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) else kind


def _bounded(batch: Any, field: str) -> Iterator[Any]:
    """Cut a batch where its texts are too many bytes for one block."""
    while batch.num_rows > MIN_BLOCK_ROWS and batch.column(field).nbytes > MAX_BLOCK_CHARS:
        share = MAX_BLOCK_CHARS / batch.column(field).nbytes
        rows = max(MIN_BLOCK_ROWS, int(batch.num_rows * share))
        yield batch.slice(0, rows)
        batch = batch.slice(rows)
    if batch.num_rows:
        yield batch


def _texts(column: Any) -> tuple[list[str | None], dict[int, Fault]]:
    try:
        texts = column.to_pylist()
    except UnicodeDecodeError:
        # Somebody's writer did not look: only the rows that hold no text are to blame.
        raw = column.cast(pa.large_binary()).to_pylist()
        texts = [None if value is None else value.decode(errors="surrogateescape") for value in raw]
    return texts, dict(_faults(texts))


def _faults(texts: Sequence[str | None]) -> Iterator[tuple[int, Fault]]:
    for position, text in enumerate(texts):
        if not text:
            yield position, NULL if text is None else EMPTY
        elif not text.isascii() and not _is_utf8(text):
            yield position, NOT_UTF8


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_id(ids: Any, name: str) -> dict[int, Fault]:
    if not ids.null_count:
        return {}
    missing = Fault(f"the row has no {name}")
    return {at: missing for at, is_valid in enumerate(ids.is_valid().to_pylist()) if not is_valid}
