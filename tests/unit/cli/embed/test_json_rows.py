from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedpool_cli.embed.json_rows import ROWS_AT_ONCE, json_lines
from embedpool_cli.embed.vector_rows import VectorRows


def rows_with(
    carried: dict[str, Any], *, is_spelled: bool, numbers: Any = (0.1, 2.0)
) -> VectorRows:
    batch = pa.RecordBatch.from_pydict(carried)
    vector = np.array(numbers, "<f4").tobytes()
    return VectorRows(batch, [vector] * batch.num_rows, is_spelled)


def test_what_was_json_keeps_its_spelling() -> None:
    rows = rows_with({"id": ["1.50", None], "x": ['"\\u00e4"', '{"a": 1}']}, is_spelled=True)

    assert b"".join(json_lines(rows, "float32")).splitlines() == [
        b'{"id":1.50,"embedding":[0.1,2.0],"x":"\\u00e4"}',
        b'{"id":null,"embedding":[0.1,2.0],"x":{"a": 1}}',
    ]


def test_what_has_types_is_written_as_json() -> None:
    rows = rows_with({"id": [7], "x": [b"raw"], "y": [[None, "\xe4"]]}, is_spelled=False)

    (line,) = b"".join(json_lines(rows, "float32")).splitlines()

    assert json.loads(line) == {
        "id": 7, "embedding": [0.1, 2.0], "x": "cmF3", "y": [None, "\xe4"],
    }  # fmt: skip


@pytest.mark.parametrize(("dtype", "number"), [("float32", 0.1), ("float16", 0.099975586)])
def test_half_precision_is_what_half_precision_holds(dtype: str, number: float) -> None:
    rows = rows_with({"id": [1]}, is_spelled=False)

    (line,) = b"".join(json_lines(rows, dtype)).splitlines()

    assert json.loads(line)["embedding"] == [number, 2.0]


def test_many_rows_are_all_written() -> None:
    ids = list(range(2 * ROWS_AT_ONCE + 1))

    lines = b"".join(json_lines(rows_with({"id": ids}, is_spelled=False), "float32")).splitlines()

    assert [json.loads(line)["id"] for line in lines] == ids
