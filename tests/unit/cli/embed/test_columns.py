from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.columns import ColumnType, Kind, column_type, kind_of
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.vector_rows import vector_type

VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ('"007"', Kind.TEXT),
        ("true", Kind.FLAG),
        ("null", Kind.NULL),
        ("-7", Kind.SMALL),
        ("9007199254740993", Kind.WHOLE),
        ("9223372036854775808", Kind.OTHER),
        ("9" * 5_000, Kind.OTHER),
        ("1.50", Kind.DECIMAL),
        ("1e400", Kind.OTHER),
        ("[1]", Kind.OTHER),
    ],
)
def test_a_value_is_what_it_is_written_as(value: str, kind: Kind) -> None:
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Kind.NULL, ColumnType.TEXT),
        (Kind.SMALL | Kind.WHOLE, ColumnType.WHOLE),
        (Kind.SMALL | Kind.DECIMAL, ColumnType.DECIMAL),
        (Kind.WHOLE | Kind.DECIMAL, ColumnType.MIXED),
        (Kind.TEXT | Kind.SMALL, ColumnType.MIXED),
        (Kind.FLAG, ColumnType.FLAG),
    ],
)
def test_a_column_is_the_narrowest_type_that_loses_nothing(
    seen: Kind, expected: ColumnType
) -> None:
    assert column_type(seen) is expected


def read_back(value: object, stored: object) -> object:
    """What a reader of the output takes `stored` for, knowing it was `value`."""
    if isinstance(value, str) or value is None:
        return stored
    return json.loads(stored) if isinstance(stored, str) else stored


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_every_value_of_any_column_comes_back_as_it_was(values: list[object]) -> None:
    raws = [None if value is None else json.dumps(value) for value in values]
    kinds = Kind.NULL
    for raw in filter(None, raws):
        kinds |= kind_of(raw)
    vectors = pa.array([[0.5]] * len(raws), vector_type(1, "float32"))
    batch = pa.record_batch([pa.array(raws, pa.string()), vectors], names=["id", "embedding"])

    typed = Typing(("id",), (kinds,), None).typed(batch).column(0).to_pylist()

    assert [read_back(*pair) for pair in zip(values, typed, strict=True)] == values
