"""All inputs as one row of blocks, in order, and how far the reading is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from embedpool_cli.embed.blocks import Gathering
from embedpool_cli.embed.lines import Broken, Stream, size_bytes
from embedpool_cli.embed.order import Fields, Input, InputFormat, Order
from embedpool_cli.embed.read_csv import read_csv
from embedpool_cli.embed.read_jsonl import read_jsonl
from embedpool_cli.embed.read_parquet import ParquetInput
from embedpool_cli.embed.read_text import read_text
from embedpool_cli.embed.rows import Block

Reader = Callable[[Stream, Gathering], Iterator[None]]
READERS: Final[Mapping[InputFormat, Reader]] = {
    InputFormat.JSONL: read_jsonl,
    InputFormat.CSV: read_csv,
    InputFormat.TEXT: read_text,
}


@dataclass(slots=True)
class Source:
    """The inputs of one order."""

    inputs: tuple[Input, ...]
    fields: Fields
    sizes_bytes: tuple[int | None, ...]
    typed_schema: Any  # what Parquet says of the carried columns; None for other formats

    @property
    def knows_its_size(self) -> bool:
        """Whether a share of it can be told."""
        return None not in self.sizes_bytes

    def blocks(self, *, skip: int = 0) -> Iterator[Block]:
        """Read every row but the first `skip`; raises `Broken` and `OSError`."""
        row = 0
        for number, source in enumerate(self.inputs):
            left = max(0, skip - row)
            is_typed = source.format is InputFormat.PARQUET
            row = yield from (self._parquet if is_typed else self._lines)(number, row, left)

    def _parquet(self, number: int, row: int, skip: int) -> Generator[Block, None, int]:
        file = ParquetInput(self.inputs[number].path, self.fields)
        try:
            if skip < file.rows:
                for block in file.blocks(row, skip):
                    yield replace(block, source_share=self._share(number, block.source_share))
            return row + file.rows
        finally:
            file.close()

    def _lines(self, number: int, row: int, skip: int) -> Generator[Block, None, int]:
        source = self.inputs[number]
        stream = Stream(source)
        gathering = Gathering(self.fields, source.path, row, skip)
        size = max(1, self.sizes_bytes[number] or 0)
        try:
            for _ in READERS[source.format](stream, gathering):
                if gathering.is_full:
                    yield gathering.block(self._share(number, stream.consumed_bytes / size))
            yield from gathering.rest(self._share(number, 1.0))
            return gathering.row
        finally:
            stream.close()

    def _share(self, number: int, of_this: float) -> float:
        sizes = [size or 0 for size in self.sizes_bytes]
        return (sum(sizes[:number]) + sizes[number] * of_this) / max(1, sum(sizes))


def source_of(order: Order) -> Source:
    """Look at every input; raises `Broken` and `OSError` where one cannot be what it should be."""
    sizes = tuple(size_bytes(source) for source in order.inputs)
    schema = None
    for source in order.inputs:
        if source.format is InputFormat.PARQUET:
            schema = _same_schema(schema, source.path, order.fields)
    return Source(order.inputs, order.fields, sizes, schema)


def _same_schema(before: Any, path: str, fields: Fields) -> Any:
    file = ParquetInput(path, fields)
    try:
        schema = file.carried_schema
    finally:
        file.close()
    if before is not None and schema != before:
        raise Broken(f"the carried columns of {path} have other types than those before it")
    return schema
