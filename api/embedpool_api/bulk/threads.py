"""Threads for whatever blocks on the file store: its slowness is not the embeddings endpoint's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

MAX_THREADS: Final = 8

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """A few threads of their own."""

    def __init__(self, *, max_threads: int = MAX_THREADS) -> None:
        """Start each when it is first needed."""
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix="file-store")

    async def run(self, call: Callable[P, T], *of: P.args, **more: P.kwargs) -> T:
        """Call in a thread; whoever is cancelled meanwhile goes on when the call is over.

        A thread cannot be cut off, and what cleans up after it has to come after it.
        """
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._pool, lambda: call(*of, **more))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise

    def close(self) -> None:
        """Begin no more calls; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
