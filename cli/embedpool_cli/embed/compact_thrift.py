"""Thrift's compact protocol, as far as Parquet's metadata are written in it. Pure.

A struct is its fields by number, each with its kind, so that what is not understood is kept as it
is. Written after the protocol's specification; maps and sets, which Parquet has none of, are not
read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

LONG_LIST: Final = 15
"""A list that is no shorter says its length in a number of its own."""


class Kind(IntEnum):
    """What a value is; the numbers are the protocol's."""

    TRUE = 1
    FALSE = 2
    BYTE = 3
    I16 = 4
    I32 = 5
    I64 = 6
    DOUBLE = 7  # kept as its eight bytes
    BINARY = 8
    LIST = 9
    STRUCT = 12


FLAGS: Final = frozenset({Kind.TRUE, Kind.FALSE})


class Items(NamedTuple):
    """The value of a list."""

    kind: Kind
    values: Sequence[Any]


Struct = dict[int, tuple[Kind, Any]]
"""Fields by number."""


def read_struct(text: bytes, start: int = 0) -> tuple[Struct, int]:
    """Read a struct, and tell where it ends; raises `ValueError`."""
    reader = _Reader(text, start)
    return reader.struct(), reader.at


def written(struct: Struct) -> bytes:
    """Write a struct."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def varint(number: int) -> bytes:
    """Write a number that is not negative, seven bits to a byte."""
    out = bytearray()
    _write_varint(out, number)
    return bytes(out)


@dataclass(slots=True)
class _Reader:
    text: bytes
    at: int

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while head := self.byte():
            step = head >> 4
            number = number + step if step else self.signed()
            kind = Kind(head & 0x0F)
            fields[number] = (kind, self._field(kind))
        return fields

    def _field(self, kind: Kind) -> Any:
        # In a field, unlike in a list, a boolean is its kind.
        return kind is Kind.TRUE if kind in FLAGS else READERS[kind](self)

    def flag(self) -> bool:
        return self.byte() == Kind.TRUE

    def double(self) -> bytes:
        return self._bytes(8)

    def binary(self) -> bytes:
        return self._bytes(self._varint())

    def items(self) -> Items:
        head = self.byte()
        length = head >> 4
        if length == LONG_LIST:
            length = self._varint()
        kind = Kind(head & 0x0F)
        return Items(kind, [READERS[kind](self) for _ in range(length)])

    def signed(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self.byte()) & 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
        return number | byte << shift

    def byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.text):
            raise ValueError("the text ends inside a struct")
        found = self.text[self.at : end]
        self.at = end
        return found


def _write_struct(out: bytearray, struct: Struct) -> None:
    before = 0
    for number, (kind, value) in sorted(struct.items()):
        step = number - before
        if 0 < step < LONG_LIST + 1:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            _write_signed(out, number)
        if kind not in FLAGS:
            WRITERS[kind](out, value)
        before = number
    out.append(0)


def _write_items(out: bytearray, items: Items) -> None:
    length = len(items.values)
    out.append(min(length, LONG_LIST) << 4 | items.kind)
    if length >= LONG_LIST:
        _write_varint(out, length)
    for value in items.values:
        WRITERS[items.kind](out, value)


def _write_signed(out: bytearray, number: int) -> None:
    _write_varint(out, number << 1 if number >= 0 else (-number << 1) - 1)


def _write_varint(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _write_binary(out: bytearray, value: bytes) -> None:
    _write_varint(out, len(value))
    out += value


def _write_flag(out: bytearray, value: bool) -> None:
    out.append(Kind.TRUE if value else Kind.FALSE)


READERS: Final[dict[Kind, Callable[[_Reader], Any]]] = {
    Kind.TRUE: _Reader.flag,
    Kind.FALSE: _Reader.flag,
    Kind.BYTE: _Reader.byte,
    Kind.I16: _Reader.signed,
    Kind.I32: _Reader.signed,
    Kind.I64: _Reader.signed,
    Kind.DOUBLE: _Reader.double,
    Kind.BINARY: _Reader.binary,
    Kind.LIST: _Reader.items,
    Kind.STRUCT: _Reader.struct,
}
WRITERS: Final[dict[Kind, Callable[[bytearray, Any], None]]] = {
    Kind.TRUE: _write_flag,
    Kind.FALSE: _write_flag,
    Kind.BYTE: bytearray.append,
    Kind.I16: _write_signed,
    Kind.I32: _write_signed,
    Kind.I64: _write_signed,
    Kind.DOUBLE: bytearray.extend,
    Kind.BINARY: _write_binary,
    Kind.LIST: _write_items,
    Kind.STRUCT: _write_struct,
}
