"""Finished rows as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson

from embedpool_cli.embed.rows import VECTOR
from embedpool_cli.embed.typed_columns import Typing

ROWS_AT_ONCE: Final = 256


def json_lines(batch: Any, typing: Typing) -> Iterator[bytes]:
    """Write a batch as lines, some hundred at a time; carried values keep their spelling."""
    names = [orjson.dumps(name) for name in batch.schema.names[:-1]]
    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
        piece = batch.slice(start, ROWS_AT_ONCE)
        carried = typing.json_columns(piece)
        yield b"".join(
            _line(names, values, vector)
            for values, vector in zip(zip(*carried, strict=True), _vectors(piece), strict=True)
        )


def _vectors(batch: Any) -> Iterator[bytes]:
    column = batch.column(VECTOR)
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    # Half precision is written with the digits that float32 needs for it.
    table = numbers.astype(np.float32, copy=False).reshape(batch.num_rows, -1)
    for vector in table:
        yield orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)


def _line(names: list[bytes], values: tuple[bytes, ...], vector: bytes) -> bytes:
    (id_name, *other_names), (id_value, *others) = names, values
    fields = [(id_name, id_value), (b'"%b"' % VECTOR.encode(), vector)]
    fields += zip(other_names, others, strict=True)
    return b"{%b}\n" % b",".join(b"%b:%b" % field for field in fields)
