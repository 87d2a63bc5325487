"""Gives carried columns their types, once all their values are known."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from embedpool_cli.embed.columns import ColumnType, Kind, column_type
from embedpool_cli.embed.rows import VECTOR
from embedpool_cli.embed.vector_rows import with_vectors

ARROW: Final = {
    ColumnType.FLAG: pa.bool_(),
    ColumnType.WHOLE: pa.int64(),
    ColumnType.DECIMAL: pa.float64(),
    ColumnType.TEXT: pa.string(),
    ColumnType.MIXED: pa.string(),
}


class Typing:
    """How the carried columns of a run are written; `kinds` is empty where they have types."""

    def __init__(self, names: tuple[str, ...], kinds: tuple[Kind, ...], typed_schema: Any) -> None:
        self._types = [] if typed_schema is not None else [column_type(kind) for kind in kinds]
        if typed_schema is not None:
            self._schema = typed_schema
        else:
            # Without a single row nothing was seen.
            types = self._types or [ColumnType.TEXT] * len(names)
            arrow = [ARROW[kind] for kind in types]
            self._schema = pa.schema(list(zip(names, arrow, strict=True)))

    def schema(self, vectors: Any) -> Any:
        """The output's schema, `vectors` being the type of its vectors."""
        return with_vectors(self._schema, vectors)

    def typed(self, batch: Any) -> Any:
        """Give a batch of a part its types."""
        if not self._types:
            return batch
        columns = [_typed(batch.column(at), kind) for at, kind in enumerate(self._types)]
        vectors = batch.column(VECTOR)
        return pa.record_batch([*columns, vectors], schema=self.schema(vectors.type))

    def json_columns(self, batch: Any) -> list[list[bytes]]:
        """Write each carried value as JSON, column by column."""
        if self._types:
            return [_as_spelled(batch.column(at)) for at in range(len(self._types))]
        return [list(_as_json(batch.column(at))) for at in range(batch.num_columns - 1)]


def _typed(column: Any, kind: ColumnType) -> Any:
    if kind in {ColumnType.TEXT, ColumnType.MIXED}:
        return pa.array([_text(value) for value in column.to_pylist()], pa.string())
    return pc.cast(column, ARROW[kind])


def _text(value: str | None) -> str | None:
    if value is not None and value.startswith('"'):
        text: str = orjson.loads(value)
        return text
    return value


def _as_spelled(column: Any) -> list[bytes]:
    return [b"null" if value is None else value.encode() for value in column.to_pylist()]


def _as_json(column: Any) -> Iterator[bytes]:
    for value in column.to_pylist():
        yield orjson.dumps(value, default=_foreign, option=orjson.OPT_NON_STR_KEYS)


def _foreign(value: object) -> object:
    """Write what JSON has no word for: bytes as base64, anything else as it prints."""
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)
