"""Finished rows as Arrow batches: what is carried, and the vectors as fixed-size lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from embedpool_cli.embed.rows import VECTOR, Done, Vector

TYPES: Final = {"float32": pa.float32(), "float16": pa.float16()}
MAX_FLOAT16: Final = float(np.finfo(np.float16).max)


def vector_type(dims: int | None, dtype: str) -> Any:
    """Tell the vectors' Arrow type; without any vector their length is open."""
    number = pa.field("item", TYPES[dtype], nullable=False)
    return pa.list_(number) if dims is None else pa.list_(number, dims)


def with_vectors(carried: Any, kind: Any) -> Any:
    """Add the vectors' column to a schema."""
    return carried.append(pa.field(VECTOR, kind, nullable=False))


def batch_of(done: Done, dims: int, dtype: str) -> Any:
    """Make a batch of the rows of `done` that have a vector."""
    places = [at for at, item in enumerate(done.items, done.start) if item.vector is not None]
    vectors = [item.vector for item in done.items if item.vector is not None]
    carried = done.block.carried
    if len(places) != carried.num_rows:
        carried = carried.take(pa.array(places, pa.int64()))
    kind = vector_type(dims, dtype)
    columns = [*carried.columns, _vector_column(vectors, kind, dtype)]
    return pa.record_batch(columns, schema=with_vectors(carried.schema, kind))


def fits_float16(vector: Vector) -> bool:
    """Say whether every number is one in float16, too."""
    return bool(np.abs(np.frombuffer(vector, "<f4")).max(initial=0.0) <= MAX_FLOAT16)


def _vector_column(vectors: Sequence[Vector], kind: Any, dtype: str) -> Any:
    numbers = np.frombuffer(b"".join(vectors), "<f4")
    if dtype == "float16":
        numbers = numbers.astype(np.float16)
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers, TYPES[dtype]), type=kind)
