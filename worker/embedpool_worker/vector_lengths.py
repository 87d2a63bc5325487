"""Whether a group's deployments answer with vectors of one length, where no catalogue says which.

Deployments that are proven different never start in one group. Of the others the first answer says
how long the group's vectors are; whoever answers otherwise serves another model. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from embedpool_shared.jobs import MergeKey
from embedpool_worker.deployments import Deployment

MOST_REMEMBERED: Final = 1_024
"""Behind a wildcard the names are the callers'."""


class VectorLengths:
    """The lengths of one lane's vectors, by what was asked for."""

    def __init__(self) -> None:
        """Know none yet."""
        self._dims: dict[tuple[str, int | None], int] = {}

    def expected(self, merge: MergeKey, deployments: Sequence[Deployment], answered: int) -> int:
        """The length an answer must have; the first one of its kind has it by definition."""
        if len(deployments) < 2:
            return answered  # the server's own affair: there is no other to compare it with
        sizes = (
            merge.dimensions or d.default_dimensions or d.native_dimensions for d in deployments
        )
        known = next(filter(None, sizes), None)
        if known is not None:
            return known
        if len(self._dims) >= MOST_REMEMBERED:
            self._dims.clear()
        return self._dims.setdefault((merge.model, merge.dimensions), answered)
