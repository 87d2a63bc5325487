"""Cuts a large request into jobs, so that several workers share it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from embedpool_shared.embedding.inputs import size_bytes
from embedpool_shared.jobs import MAX_JOB_ITEMS, MAX_JOB_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedpool_shared.jobs import Input

MAX_JOB_BYTES: Final = 4 * MAX_JOB_TOKENS


class Slice(NamedTuple):
    """The inputs of one job: `inputs[start:stop]`."""

    start: int
    stop: int
    size_bytes: int


def cut(inputs: Sequence[Input]) -> list[Slice]:
    """Slice `inputs`, in order and without gaps, at the limits of a job.

    An input larger than a job may be travels alone.
    """
    slices: list[Slice] = []
    start = filled = 0
    for place, item in enumerate(inputs):
        size = size_bytes(item)
        if place > start and (place - start == MAX_JOB_ITEMS or filled + size > MAX_JOB_BYTES):
            slices.append(Slice(start, place, filled))
            start, filled = place, 0
        filled += size
    if inputs:
        slices.append(Slice(start, len(inputs), filled))
    return slices
