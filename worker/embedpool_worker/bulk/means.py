"""What every batch's run needs of its process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from embedpool_shared.catalog import Catalog
from embedpool_shared.embedding.lengths import TokenCounter
from embedpool_shared.file_store import FileStore
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_worker.bulk.feeding import DirectLane
from embedpool_worker.bulk.validation import Bounds

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The parts of a worker process that batches use; the composition root chooses."""

    names: Names
    line: Callable[[str], Line]  # by role, one for each run
    store: FileStore
    threads: Executor  # where it is written
    catalog: Catalog
    tokens: TokenCounter
    lane: Callable[[str], DirectLane]
    bounds: Bounds
    default_model: str | None
    rows_ended: Callable[[str, int], None]  # outcome, lines
    running: Callable[[], int] = lambda: 1  # how many batches share the lanes

    async def in_thread(self, function: Callable[P, R], *arguments: P.args, **more: P.kwargs) -> R:
        """Run what blocks beside the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: function(*arguments, **more))
