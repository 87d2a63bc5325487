"""Finished rows as lines of JSON."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson

from embedpool_cli.embed.rows import VECTOR, Vector
from embedpool_cli.embed.vector_rows import VectorRows

ROWS_AT_ONCE: Final = 256


def json_lines(rows: VectorRows, dtype: str) -> Iterator[bytes]:
    """Write rows as lines, some hundred at a time; carried values keep their spelling."""
    names = [orjson.dumps(name) for name in rows.carried.schema.names]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        piece = rows.piece(start, start + ROWS_AT_ONCE)
        carried = [_values(column, is_spelled=rows.is_spelled) for column in piece.carried.columns]
        yield b"".join(
            _line(names, values, _vector(vector, dtype))
            for values, vector in zip(zip(*carried, strict=True), piece.vectors, strict=True)
        )


def _values(column: Any, *, is_spelled: bool) -> list[bytes]:
    values = column.to_pylist()
    if is_spelled:
        return [b"null" if value is None else value.encode() for value in values]
    option = orjson.OPT_NON_STR_KEYS
    return [orjson.dumps(value, default=_foreign, option=option) for value in values]


def _foreign(value: object) -> object:
    """Write what JSON has no word for: bytes as base64, anything else as it prints."""
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _vector(vector: Vector, dtype: str) -> bytes:
    numbers = np.frombuffer(vector, "<f4")
    if dtype != "float32":
        # Half precision is written with the digits that float32 needs for it.
        numbers = numbers.astype(np.float16).astype(np.float32)
    return orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)


def _line(names: list[bytes], values: tuple[bytes, ...], vector: bytes) -> bytes:
    (id_name, *other_names), (id_value, *others) = names, values
    fields = [(id_name, id_value), (b'"%b"' % VECTOR.encode(), vector)]
    fields += zip(other_names, others, strict=True)
    return b"{%b}\n" % b",".join(b"%b:%b" % field for field in fields)
