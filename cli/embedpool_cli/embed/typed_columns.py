"""Gives carried columns their types, once all their values are known."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from embedpool_cli.embed.columns import ColumnType, Kind, column_type

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

    @property
    def schema(self) -> Any:
        """The carried columns' types, as an Arrow schema."""
        return self._schema

    def typed(self, batch: Any) -> Any:
        """Give carried columns their types."""
        if not self._types:
            return batch
        columns = [_typed(batch.column(at), kind) for at, kind in enumerate(self._types)]
        return pa.record_batch(columns, schema=self._schema)


def _typed(column: Any, kind: ColumnType) -> Any:
    if kind in {ColumnType.TEXT, ColumnType.MIXED}:
        return pa.array([_text(value) for value in column.to_pylist()], pa.string())
    return pc.cast(column, ARROW[kind])


def _text(value: str | None) -> str | None:
    if value is not None and value.startswith('"'):
        text: str = orjson.loads(value)
        return text
    return value
