"""The directory at the end of a Parquet file: columns written apart, joined in one. Pure.

The vectors' column is the first. Readers that share a file out (Spark, Hadoop) look for a row group
half its size after the beginning of its first column; columns at the end of the file would have
them look beyond it, and pass over the rows without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from embedpool_cli.embed.compact_thrift import Items, Kind, Struct, read_struct, written
from embedpool_cli.embed.vector_pages import PLAIN, RLE

MAGIC: Final = b"PAR1"
_LENGTH_BYTES: Final = 4
TAIL_BYTES: Final = _LENGTH_BYTES + len(MAGIC)
UNCOMPRESSED: Final = 0

# The numbers of fields, as in parquet.thrift.
_FILE_SCHEMA, _FILE_ROWS, _FILE_GROUPS = 2, 3, 4
_ELEMENT_TYPE, _ELEMENT_NAME = 1, 4
_GROUP_COLUMNS, _GROUP_PLAIN_SIZE, _GROUP_OFFSET, _GROUP_SIZE = 1, 2, 5, 6
_CHUNK_OFFSET, _CHUNK_META = 2, 3
_META_TYPE, _META_ENCODINGS, _META_PATH, _META_CODEC, _META_NUMBERS = 1, 2, 3, 4, 5
_META_PLAIN_SIZE, _META_SIZE, _META_DATA_OFFSET = 6, 7, 9
META_OFFSETS: Final = (_META_DATA_OFFSET, 10, 11)
"""Of data, index and dictionary pages; indexes and bloom filters are not written."""
VECTOR_ELEMENTS: Final = slice(1, 4)
"""Of the schema: the column, its list and its number; the first is the root."""


class VectorChunk(NamedTuple):
    """The vectors of a row group."""

    rows: int
    numbers: int
    offset: int
    size_bytes: int


def tail_of(footer: bytes) -> bytes:
    """Put the end of a file together."""
    return footer + len(footer).to_bytes(_LENGTH_BYTES, "little") + MAGIC


def footer_bytes(tail: bytes) -> int:
    """Read how long a footer is from the last `TAIL_BYTES` of a file."""
    return int.from_bytes(tail[:_LENGTH_BYTES], "little")


def joined(schema: bytes, carried: bytes, chunks: Sequence[VectorChunk], carried_at: int) -> bytes:
    """Join two footers: of a file that has all columns and no rows, and of the carried columns.

    The latter were written as a file of their own, which begins at `carried_at`; each of its row
    groups has the vectors of one of `chunks`.
    """
    whole, _ = read_struct(schema)
    part, _ = read_struct(carried)
    elements = _values(whole, _FILE_SCHEMA)[VECTOR_ELEMENTS]
    groups = [
        _group(group, _vectors(chunk, elements), chunk, carried_at)
        for group, chunk in zip(_values(part, _FILE_GROUPS), chunks, strict=True)
    ]
    whole[_FILE_ROWS] = (Kind.I64, sum(chunk.rows for chunk in chunks))
    whole[_FILE_GROUPS] = (Kind.LIST, Items(Kind.STRUCT, groups))
    return written(whole)


def _vectors(chunk: VectorChunk, elements: Sequence[Struct]) -> Struct:
    path = [element[_ELEMENT_NAME][1] for element in elements]
    meta: Struct = {
        _META_TYPE: elements[-1][_ELEMENT_TYPE],
        _META_ENCODINGS: (Kind.LIST, Items(Kind.I32, [PLAIN, RLE])),
        _META_PATH: (Kind.LIST, Items(Kind.BINARY, path)),
        _META_CODEC: (Kind.I32, UNCOMPRESSED),
        _META_NUMBERS: (Kind.I64, chunk.numbers),
        _META_PLAIN_SIZE: (Kind.I64, chunk.size_bytes),
        _META_SIZE: (Kind.I64, chunk.size_bytes),
        _META_DATA_OFFSET: (Kind.I64, chunk.offset),
    }
    return {_CHUNK_OFFSET: (Kind.I64, 0), _CHUNK_META: (Kind.STRUCT, meta)}


def _group(group: Struct, vectors: Struct, chunk: VectorChunk, carried_at: int) -> Struct:
    columns = [_moved(column, carried_at) for column in _values(group, _GROUP_COLUMNS)]
    return group | {
        _GROUP_COLUMNS: (Kind.LIST, Items(Kind.STRUCT, [vectors, *columns])),
        _GROUP_PLAIN_SIZE: (Kind.I64, group[_GROUP_PLAIN_SIZE][1] + chunk.size_bytes),
        _GROUP_OFFSET: (Kind.I64, chunk.offset),
        _GROUP_SIZE: (Kind.I64, group[_GROUP_SIZE][1] + chunk.size_bytes),
    }


def _moved(column: Struct, by: int) -> Struct:
    meta: Struct = column[_CHUNK_META][1]
    there = [number for number in META_OFFSETS if number in meta]
    moved = meta | {number: (Kind.I64, meta[number][1] + by) for number in there}
    return column | {_CHUNK_META: (Kind.STRUCT, moved)}


def _values(struct: Struct, number: int) -> Sequence[Struct]:
    values: Sequence[Struct] = struct[number][1].values
    return values
