"""Finished rows: what is carried and the vectors, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from embedpool_cli.embed.rows import Done, Vector

TYPES: Final = {"float32": pa.float32(), "float16": pa.float16()}
NUMBER_BYTES: Final = {"float32": 4, "float16": 2}
MAX_FLOAT16: Final = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Rows that have a vector each."""

    carried: Any  # an Arrow record batch
    vectors: Sequence[Vector] = field(repr=False)
    is_spelled: bool  # what is carried is JSON as it was written

    def __len__(self) -> int:
        return len(self.vectors)

    def piece(self, start: int, stop: int) -> VectorRows:
        """Return the rows from `start` to before `stop`, or to the end."""
        vectors = self.vectors[start:stop]
        return VectorRows(self.carried.slice(start, len(vectors)), vectors, self.is_spelled)


def rows_of(done: Done) -> VectorRows:
    """Return the rows of `done` that have a vector."""
    places = [at for at, item in enumerate(done.items, done.start) if item.vector is not None]
    vectors = [item.vector for item in done.items if item.vector is not None]
    carried = done.block.carried
    if len(places) != carried.num_rows:
        carried = carried.take(pa.array(places, pa.int64()))
    return VectorRows(carried, vectors, is_spelled=bool(done.block.kinds))


def vector_type(dims: int | None, dtype: str) -> Any:
    """Tell the vectors' Arrow type; without any vector their length is open."""
    number = pa.field("item", TYPES[dtype], nullable=False)
    return pa.list_(number) if dims is None else pa.list_(number, dims)


def fits_float16(vector: Vector) -> bool:
    """Say whether every number is one in float16, too."""
    return bool(np.abs(np.frombuffer(vector, "<f4")).max(initial=0.0) <= MAX_FLOAT16)


def as_dtype(vectors: Sequence[Vector], dtype: str) -> Sequence[Vector]:
    """Return float32 vectors as `dtype`, in as many pieces as may be."""
    if dtype == "float32":
        return vectors
    return [np.frombuffer(b"".join(vectors), "<f4").astype("<f2").tobytes()]
