"""Makes a batch: what it reads, who pays, and with whom its texts may travel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from embedpool_api.attribution import attribution
from embedpool_api.bulk.ids import new_batch_id
from embedpool_api.bulk.ownership import may_touch, no_file, owner
from embedpool_shared.batches import (
    COMPLETION_WINDOW_S,
    BatchRecord,
    FileRecord,
    Purpose,
)
from embedpool_shared.embedding.request import EmbeddingRequest
from embedpool_shared.errors import BadRequest, QueueUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedpool_api.bulk.parts import BulkParts
    from embedpool_api.callers import Caller
    from embedpool_api.routes.batch_body import BatchBody

TRIES: Final = 3
PAUSE_S: Final = 0.2
NOTHING_SAID: Final = EmbeddingRequest(model="", inputs=[])
"""Headers alone say whom a batch is charged to beside its caller."""


async def new_batch(
    parts: BulkParts, body: BatchBody, caller: Caller, headers: Mapping[bytes, bytes]
) -> BatchRecord:
    """Make the batch that is asked for.

    Raises `BadRequest`, `NotFound` for a file that this caller does not have, `RateLimited` where
    too many of its owner's batches have not ended, and what an embeddings request would be refused
    with by the caller's limits.
    """
    accounts = attribution(headers, NOTHING_SAID, caller).accounts
    parts.require_shared()
    file = await _input_of(parts, body.input_file_id, caller)
    await parts.refuse_spent(caller)
    now = await parts.files.now()
    record = BatchRecord(
        id=new_batch_id(),
        owner=owner(caller),
        input_file_id=file.id,
        input_path=file.path,
        created_at=now,
        expires_at=now + COMPLETION_WINDOW_S,
        metadata=body.metadata or {},
        account=caller.account,
        payers=accounts,
        key_id=caller.identity.key.id if caller.identity else None,
        scope=caller.scope,
        forwards_user=parts.forwards_user,
        drops_params=parts.drops_params,
    )
    await _create(parts, record)
    parts.hurry(record.id)
    return record


async def _input_of(parts: BulkParts, file_id: str, caller: Caller) -> FileRecord:
    file = await parts.files.read(file_id)
    if file is None or not may_touch(caller, file.owner):
        raise no_file(file_id, param="input_file_id")
    if file.purpose is not Purpose.BATCH:
        raise BadRequest(
            "`input_file_id` names a result; upload a file with the purpose 'batch'",
            param="input_file_id",
        )
    return file


async def _create(parts: BulkParts, record: BatchRecord) -> None:
    """Create it even if a reply is lost: a client that tries again would have it twice."""
    most = parts.bounds.max_active_batches_per_owner
    for pause_s in (PAUSE_S,) * (TRIES - 1):
        try:
            await parts.batches.create(record, max_active=most)
        except QueueUnavailable:
            await asyncio.sleep(pause_s)
        else:
            return
    await parts.batches.create(record, max_active=most)
