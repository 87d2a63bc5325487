"""Vectors as Parquet pages, written without an encoder: their numbers are the page. Pure.

A column of vectors is a list of numbers in each row, where a page says before its numbers at which
of them a row begins and that none is missing. For vectors of one length both are the same few bytes
again and again, so a page is its head and the vectors as they came.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from embedpool_cli.embed.compact_thrift import Kind, Struct, read_struct, varint, written

PAGE_BYTES: Final = 1 << 20
"""About what a reader holds at a time."""
MAX_HEADER_BYTES: Final = 64
DATA_PAGE: Final = 0
PLAIN: Final = 0
RLE: Final = 3
_LENGTH_BYTES: Final = 4
_TYPE, _PLAIN_SIZE, _SIZE, _DATA_PAGE_HEADER = 1, 2, 3, 5
_NUMBERS, _ENCODING, _DEFINITION_ENCODING, _REPETITION_ENCODING = 1, 2, 3, 4


class Page(NamedTuple):
    """One page of a file."""

    rows: int
    size_bytes: int  # with its header


def rows_of_page(dims: int, number_bytes: int) -> int:
    """Tell how many vectors share a page."""
    return max(1, PAGE_BYTES // (dims * number_bytes))


@lru_cache(maxsize=64)
def page_head(rows: int, dims: int, number_bytes: int) -> bytes:
    """Write all of a page that comes before its numbers."""
    levels = _sized(_run(1, 0) * rows if dims == 1 else (_run(1, 0) + _run(dims - 1, 1)) * rows)
    levels += _sized(_run(rows * dims, 1))
    size_bytes = len(levels) + rows * dims * number_bytes
    header: Struct = {
        _TYPE: (Kind.I32, DATA_PAGE),
        _PLAIN_SIZE: (Kind.I32, size_bytes),
        _SIZE: (Kind.I32, size_bytes),
        _DATA_PAGE_HEADER: (
            Kind.STRUCT,
            {
                _NUMBERS: (Kind.I32, rows * dims),
                _ENCODING: (Kind.I32, PLAIN),
                _DEFINITION_ENCODING: (Kind.I32, RLE),
                _REPETITION_ENCODING: (Kind.I32, RLE),
            },
        ),
    }
    return written(header) + levels


def page_from(text: bytes, dims: int) -> Page:
    """Read what a page is from its first `MAX_HEADER_BYTES`; raises `ValueError`."""
    header, header_bytes = read_struct(text)
    try:
        numbers = header[_DATA_PAGE_HEADER][1][_NUMBERS][1]
        return Page(numbers // dims, header_bytes + header[_SIZE][1])
    except (KeyError, TypeError) as error:
        raise ValueError("this is no page of vectors") from error


def _run(length: int, level: int) -> bytes:
    return varint(length << 1) + bytes([level])


def _sized(levels: bytes) -> bytes:
    return len(levels).to_bytes(_LENGTH_BYTES, "little") + levels
