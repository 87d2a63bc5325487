"""Records of files and batches with every field filled in; a test names those that it is about."""

from __future__ import annotations

from typing import Any, Final

from embedpool_shared.batches import FILES_LIVE_S, BatchRecord, FileRecord, Purpose
from embedpool_shared.file_records import content_path

OWNER: Final = "key:a"
CREATED_AT: Final = 1_800_000_000.9


def file_record_of(file_id: str = "file-1", **more: Any) -> FileRecord:
    """An upload of ten bytes, kept for as long as files are."""
    created_at = more.get("created_at", CREATED_AT)
    fields: dict[str, Any] = {
        "id": file_id,
        "owner": OWNER,
        "path": content_path(file_id),
        "size_bytes": 10,
        "created_at": created_at,
        "expires_at": created_at + FILES_LIVE_S,
        "filename": "in.jsonl",
        "purpose": Purpose.BATCH,
    }
    return FileRecord(**(fields | more))


def batch_record_of(
    batch_id: str = "batch_1", *, reads: str = "file-1", **more: Any
) -> BatchRecord:
    """A batch that reads a file, and has a day for it."""
    created_at = more.get("created_at", CREATED_AT)
    fields: dict[str, Any] = {
        "id": batch_id,
        "owner": OWNER,
        "input_file_id": reads,
        "input_path": content_path(reads),
        "created_at": created_at,
        "expires_at": created_at + 86_400,
    }
    return BatchRecord(**(fields | more))
