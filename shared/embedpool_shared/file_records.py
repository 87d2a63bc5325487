"""Files in Redis: who owns them, for how long, and which contents of the store are to go.

Invariants
- Before the first byte of a content is written, Redis knows when it is to be deleted: whatever
  becomes of its writer, it goes (`promise`, then `add`).
- A content outlives its record, never the other way round; one that a batch still reads stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from embedpool_shared.batch_records import EVERYBODY, LISTS_LIVE_S, Pages, RecordsLine
from embedpool_shared.batches import RECORD, FileRecord, Purpose, encode_record, file_record
from embedpool_shared.errors import BadRequest
from embedpool_shared.names import Names
from embedpool_shared.scripts import script

REMEMBERED_MS: Final = 3_600_000
"""For so long whoever deletes a list's files page by page can go on behind a deleted one."""
MAX_DUE: Final = 100


class Stored(NamedTuple):
    """How much an owner has uploaded."""

    files: int
    size_bytes: int


def content_path(file_id: str) -> str:
    """Say where in the file store the content of a file is."""
    return f"files/{file_id}"


class FileRecords:
    """All files; raises `QueueUnavailable` where Redis is away."""

    def __init__(self, line: RecordsLine, names: Names) -> None:
        """Keep them over `line`."""
        self._line = line
        self._names = names

    async def now(self) -> float:
        """Read Redis' clock, in Unix seconds."""
        ((seconds, micros),) = await self._line.call_all([("TIME",)])
        return int(seconds) + int(micros) / 1_000_000

    async def promise(self, file_id: str, *, lives_s: float) -> float:
        """Announce a content: unless its file is added, it goes in so many seconds.

        Returns Redis' clock.
        """
        now = await self.now()
        await self._line.call_all([("ZADD", self._names.contents, now + lives_s, file_id)])
        return now

    async def add(
        self, record: FileRecord, *, max_files: int | None, max_bytes: int | None
    ) -> bool:
        """Add a file; False where its owner would have too many or too much then.

        Those that have expired do not count. Without bounds, as for results of batches, it is
        added in any case and does not count itself.
        """
        times = [record.created_at, record.expires_at]
        bounds = ["" if bound is None else bound for bound in (max_files, max_bytes)]
        arguments = [record.id, encode_record(record), record.size_bytes, *times, *bounds]
        keys = [self._names.file(record.id), *self._lists(record.owner), self._names.contents]
        return bool(await self._line.run(script("add_file"), keys, [*arguments, LISTS_LIVE_S]))

    async def read(self, file_id: str) -> FileRecord | None:
        """Read a file's record; None for one that does not exist or has expired."""
        (raw,) = await self._line.call_all([("HGET", self._names.file(file_id), RECORD)])
        return None if raw is None else file_record(raw)

    async def stored(self, owner: str) -> Stored:
        """Say how much an owner has uploaded, as its quota counts it."""
        counted = await self._line.run(script("count_files"), self._lists(owner), [])
        return Stored(*counted)

    async def list(
        self,
        owner: str | None,
        *,
        after: str | None = None,
        limit: int,
        purpose: Purpose | None = None,
        is_oldest_first: bool = False,
    ) -> Sequence[FileRecord]:
        """List an owner's files, or everybody's for None, the newest first.

        Only those behind `after`; raises `BadRequest` where that was never among them.
        """
        index, prefix = self._names.listed_files(owner or EVERYBODY), self._names.file("")
        pages = Pages(self._line, index, prefix, is_oldest_first=is_oldest_first)
        found: list[FileRecord] = []
        while len(found) < limit and (rows := await pages.next(after)):
            after = rows[-1][0]
            kept = (file_record(raw) for _, one in rows if (raw := one.get(RECORD.encode())))
            found += (record for record in kept if purpose in {None, record.purpose})
        return found[:limit]

    async def delete(self, file_id: str) -> bool:
        """Forget a file; False where there is none. Its content is due from now on.

        Raises `BadRequest` while a batch that has not ended reads it.
        """
        record = await self.read(file_id)
        if record is None:
            return False
        names = self._names
        keys = [
            names.file(file_id),
            *self._lists(record.owner),
            names.contents,
            names.active_batches,
        ]
        arguments = [file_id, names.batch(""), REMEMBERED_MS]
        reply = await self._line.run(script("drop_file"), keys, arguments)
        if isinstance(reply, bytes):
            raise BadRequest(
                f"The file is the input of {reply.decode()}, which has not ended; "
                "cancel that batch first, or wait for it",
                param="file_id",
            )
        return bool(reply)

    async def due(self, *, limit: int = MAX_DUE) -> Sequence[str]:
        """List files whose content is to be deleted by now."""
        keys = [self._names.contents, self._names.active_batches]
        due = await self._line.run(script("due_contents"), keys, [self._names.batch(""), limit])
        return [file_id.decode() for file_id in due]

    async def gone(self, file_ids: Sequence[str]) -> None:
        """The contents of these files are deleted."""
        everybody = self._names.listed_files(EVERYBODY)
        if file_ids:
            await self._line.call_all(
                [
                    ("ZREM", self._names.contents, *file_ids),
                    ("ZREM", everybody, *file_ids),
                ]
            )

    def _lists(self, owner: str) -> Sequence[str]:
        names = self._names
        own = [names.files(owner), names.listed_files(owner), names.stored(owner)]
        return [*own, names.listed_files(EVERYBODY)]
