"""Deletes the contents of files that are deleted, have expired or were never finished.

Whoever sweeps at the same time does no harm: what is gone is gone.
"""

from __future__ import annotations

import asyncio

from embedpool_shared.file_records import FileRecords, content_path
from embedpool_shared.file_store import FileStore


async def sweep(files: FileRecords, store: FileStore) -> int:
    """Delete every content that is due; returns how many.

    Raises `StoreUnavailable` and `QueueUnavailable`: what is left then is due the next time.
    """
    swept = 0
    while due := await files.due():
        for file_id in due:
            await asyncio.to_thread(store.delete, content_path(file_id))
        await files.gone(due)
        swept += len(due)
    return swept
