"""The bulk side of a worker process: it leads or it waits for its turn to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from embedpool_shared.config.settings import Config
from embedpool_shared.errors import StoreUnavailable
from embedpool_shared.file_records import FileRecords
from embedpool_shared.file_sweep import sweep
from embedpool_shared.store_probe import StoreProbe
from embedpool_worker.bulk.leading import Leading
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.term import Jobs, Term
from embedpool_worker.bulk.validation import Bounds

log = logging.getLogger(__name__)

THREADS: Final = 4
ABANDONED_S: Final = 24 * 60 * 60.0
"""What nobody wrote to for so long, nobody will finish."""


def bulk_threads() -> ThreadPoolExecutor:
    """Make the threads that write results."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="bulk")


def bounds_of(config: Config) -> Bounds:
    """Say how large a batch may be."""
    files = config.files
    return Bounds(files.max_lines, files.max_inputs, files.max_line_bytes)


class BulkService:
    """Leads where it can: one process of the pool runs all batches."""

    def __init__(
        self, means: Means, jobs: Callable[[], Jobs], probe: StoreProbe, *, worker_id: str
    ) -> None:
        """`jobs` connects to arq's queue; a process that sees another store never leads."""
        self._means = means
        self._jobs = jobs
        self._probe = probe
        self._stop = asyncio.Event()
        self._leading = Leading(
            means.line("lead"),
            means.names,
            self._lead,
            worker_id=worker_id,
            may_lead=lambda: probe.is_same,
        )

    async def run(self) -> None:
        """Lead, or wait for it, until asked to stop."""
        async with asyncio.TaskGroup() as tasks:
            probing = tasks.create_task(self._probe.run())
            leading = tasks.create_task(self._leading.run())
            await self._stop.wait()
            probing.cancel()
            leading.cancel()

    def ask_to_stop(self) -> None:
        """End every run at once: what is booked stands, the next leader goes on from there."""
        self._stop.set()

    async def sweep(self) -> None:
        """Delete what is due in the file store, and what crashes left half-written there.

        What it does not let go of is due the next time. In another store than the pool's there is
        nothing to delete: what is due would be struck off the list, and stay for ever.
        """
        if not self._probe.is_same:
            return
        line, store = self._means.line("bulk"), self._means.store
        try:
            await sweep(FileRecords(line, self._means.names), store)
            await asyncio.to_thread(store.delete_abandoned, older_than_s=ABANDONED_S)
        except StoreUnavailable as unavailable:
            log.warning("file_sweep_failed reason=%s", unavailable)
        finally:
            await line.close()

    async def leave(self) -> None:
        """Give the lead back after `run` has ended."""
        await self._leading.leave()
        self._means.threads.shutdown(wait=False, cancel_futures=True)

    async def _lead(self, epoch: int) -> None:
        await Term(self._means, self._jobs(), epoch=epoch).run()
