"""Takes a file in: from the body into the file store piece by piece, and then into Redis.

Invariants
- No more than a piece of a body is ever in memory; parsing and writing are a thread's work.
- Whatever ends an upload early leaves nothing in the store, and nothing in Redis but its promise.
- A file that Redis lists is whole and safe in the store.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from typing_extensions import override

from embedpool_api.bulk.ids import new_file_id
from embedpool_api.bulk.intake import MAX_AROUND_BYTES, Intake, Taken, too_large
from embedpool_api.bulk.multipart import MultipartForm
from embedpool_api.passage import ClientDisconnected
from embedpool_shared.batches import FileRecord, Purpose
from embedpool_shared.errors import BodyTooLarge, NotJson, StoreUnavailable
from embedpool_shared.file_records import content_path
from embedpool_shared.file_store import StoredFile, require_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from embedpool_api.bulk.parts import BulkParts
    from embedpool_shared.file_records import Stored

PIECE_BYTES: Final = 262_144
UNFINISHED_LIVES_S: Final = 86_400.0
"""An upload that takes longer is not finished any more; its content is deleted then."""

log = logging.getLogger(__name__)


class Unanswered(Response):
    """Nobody waits for an answer any more."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say nothing."""


class OverQuota(BodyTooLarge):
    """The owner has uploaded as much as it may."""


@dataclass(slots=True, eq=False)
class Upload:
    """One file on its way in."""

    parts: BulkParts
    owner: str
    received_bytes: int = 0

    async def kept(self, headers: Mapping[bytes, bytes], receive: Receive) -> FileRecord:
        """Read a whole form and keep its file.

        Raises `BadRequest`, `BodyTooLarge`, `ClientDisconnected`, `StoreUnavailable` and
        `QueueUnavailable`.
        """
        form = MultipartForm(headers.get(b"content-type", b""))
        self._refuse_early(headers)
        await self._refuse_over_quota()
        file_id = new_file_id()
        now = await self.parts.files.promise(file_id, lives_s=UNFINISHED_LIVES_S)
        taken = await self._stored(form, receive, content_path(file_id))
        record = FileRecord(
            id=file_id,
            owner=self.owner,
            path=content_path(file_id),
            size_bytes=taken.size_bytes,
            created_at=now,
            expires_at=now + taken.lives_s,
            filename=taken.filename,
            purpose=Purpose.BATCH,
        )
        await self._add(record)
        return record

    def _refuse_early(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse by its headers what could not be kept: not a byte of it is read."""
        if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"", b"identity"}:
            raise NotJson("A Content-Encoding is not accepted; send the file as it is")
        max_bytes = self.parts.bounds.max_file_bytes
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced[:18]) > max_bytes + MAX_AROUND_BYTES:
            raise too_large(max_bytes)

    async def _refuse_over_quota(self) -> None:
        bounds = self.parts.bounds
        stored = await self.parts.files.stored(self.owner)
        if (
            stored.files >= bounds.max_files_per_owner
            or stored.size_bytes >= bounds.max_bytes_per_owner
        ):
            raise self._over_quota(stored)

    async def _stored(self, form: MultipartForm, receive: Receive, path: str) -> Taken:
        store, threads = require_store(self.parts.store), self.parts.threads
        async with _written(self.parts, store.writer(path)) as file:
            intake = Intake(form, file.write, max_file_bytes=self.parts.bounds.max_file_bytes)
            async for piece in self._pieces(receive):
                await threads.run(intake.take, piece)
            return intake.done()

    async def _pieces(self, receive: Receive) -> AsyncIterator[bytes]:
        """Gather what comes in into pieces that are worth a turn of a thread."""
        gathered = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            more = message.get("more_body", False)
            gathered += message.get("body", b"")
            if len(gathered) >= PIECE_BYTES or (gathered and not more):
                self.received_bytes += len(gathered)
                piece, gathered = bytes(gathered), bytearray()
                yield piece

    async def _add(self, record: FileRecord) -> None:
        bounds, files = self.parts.bounds, self.parts.files
        is_added = await files.add(
            record, max_files=bounds.max_files_per_owner, max_bytes=bounds.max_bytes_per_owner
        )
        if not is_added:
            await delete_content(self.parts, record.id)
            raise self._over_quota(await files.stored(self.owner), record.size_bytes)

    def _over_quota(self, stored: Stored, size_bytes: int | None = None) -> OverQuota:
        bounds = self.parts.bounds
        further = "" if size_bytes is None else f", and this one has {size_bytes}"
        return OverQuota(
            f"{stored.files} of {bounds.max_files_per_owner} files with {stored.size_bytes} of "
            f"{bounds.max_bytes_per_owner} bytes are kept for you{further}; delete some first",
            code="quota_exceeded",
        )


async def delete_content(parts: BulkParts, file_id: str) -> None:
    """Delete a content nobody lists; if the store is away, a sweep does it later."""
    store = require_store(parts.store)
    try:
        await parts.threads.run(store.delete, content_path(file_id))
    except StoreUnavailable as away:
        log.warning("file_content_left id=%s error=%s", file_id, away.message)
        return
    await parts.files.gone([file_id])


@asynccontextmanager
async def _written(parts: BulkParts, writer: StoredFile) -> AsyncIterator[StoredFile]:
    """Enter and leave a file of the store in threads."""
    try:
        file = await parts.threads.run(writer.__enter__)
        yield file
    except BaseException as error:
        await parts.threads.run(writer.__exit__, type(error), error, error.__traceback__)
        raise
    await parts.threads.run(writer.__exit__, None, None, None)
