"""Files on a real server: quotas that hold, lists that page on, contents that are always let go."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from embedpool_api.accounts.shared_line import SharedLine
from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import FileRecord, Purpose, Status
from embedpool_shared.errors import BadRequest, StoreUnavailable
from embedpool_shared.file_records import FileRecords, Stored, content_path
from embedpool_shared.file_store import FileStore
from embedpool_shared.file_sweep import sweep
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from support.bulk_records import batch_record_of, file_record_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.valkey import RedisServer

NAMES = Names()
ALICE = "key:alice"


@dataclass
class Cabinet:
    """Files, the batches that read them, and Redis' time."""

    files: FileRecords
    batches: BatchRecords
    now: float

    def record(self, number: int = 1, *, age_s: float = 0.0, **more: Any) -> FileRecord:
        created_at = self.now - age_s + number / 1_000
        fields = {"owner": ALICE, "created_at": created_at, "expires_at": created_at + 1_000}
        return file_record_of(f"file-{number}", **(fields | more))

    async def add(
        self,
        number: int = 1,
        *,
        max_files: int | None = 100,
        max_bytes: int | None = 1_000_000,
        **more: Any,
    ) -> bool:
        return await self.files.add(
            self.record(number, **more), max_files=max_files, max_bytes=max_bytes
        )

    async def read_by(self, batch_id: str, file_id: str = "file-1") -> None:
        """Make a batch that reads a file."""
        await self.batches.create(
            batch_record_of(batch_id, owner=ALICE, reads=file_id, created_at=self.now)
        )

    async def listed(self, **asked: Any) -> list[str]:
        owner = asked.pop("owner", ALICE)
        found = await self.files.list(owner, **({"limit": 1_000} | asked))
        return [record.id for record in found]


@asynccontextmanager
async def cabinet(valkey: RedisServer) -> AsyncIterator[Cabinet]:
    line = SharedLine(Line(connection_pool(RedisAddress(valkey.url), client_name="t")))
    files = FileRecords(line, NAMES)
    try:
        yield Cabinet(files, BatchRecords(line, NAMES), await files.now())
    finally:
        await line.close()


async def test_a_file_is_kept_until_it_expires(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        assert await it.add()

        assert await it.files.read("file-1") == it.record()
        assert await it.files.read("file-2") is None
        with valkey.client() as client:
            assert 990 < client.ttl(NAMES.file("file-1")) <= 1_001


async def test_an_owner_has_so_many_files_and_no_more(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        assert await it.add(1, max_files=2)
        assert await it.add(2, max_files=2)

        assert not await it.add(3, max_files=2)

        assert await it.files.read("file-3") is None
        assert await it.listed() == ["file-2", "file-1"]
        assert await it.add(4, max_files=2, owner="team:t")
        await it.files.delete("file-1")
        assert await it.add(3, max_files=2)


async def test_an_owner_has_so_many_bytes_and_no_more(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        assert await it.add(1, size_bytes=60, max_bytes=100)
        assert await it.add(2, size_bytes=40, max_bytes=100)

        assert not await it.add(3, size_bytes=1, max_bytes=100)

        assert await it.files.stored(ALICE) == Stored(2, 100)
        await it.files.delete("file-1")
        assert await it.files.stored(ALICE) == Stored(1, 40)
        assert await it.add(3, size_bytes=60, max_bytes=100)


async def test_many_at_once_never_get_past_the_quota(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        added = await asyncio.gather(*(it.add(number, max_files=7) for number in range(40)))

        assert sum(added) == 7
        assert await it.files.stored(ALICE) == Stored(7, 70)


async def test_results_are_kept_whatever_the_quota_and_do_not_count(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        result: dict[str, Any] = {
            "max_files": None,
            "max_bytes": None,
            "purpose": Purpose.BATCH_OUTPUT,
        }
        assert await it.add(1, **result)
        assert await it.add(2, max_files=1)

        assert await it.add(3, **result)

        assert await it.files.stored(ALICE) == Stored(1, 10)
        await it.files.delete("file-1")
        assert await it.files.stored(ALICE) == Stored(1, 10)


async def test_a_file_added_twice_counts_once(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        assert await it.add(1, max_files=1)

        assert await it.add(1, max_files=1)

        assert await it.files.stored(ALICE) == Stored(1, 10)


async def test_what_has_expired_counts_for_nothing_and_is_listed_nowhere(
    valkey: RedisServer,
) -> None:
    async with cabinet(valkey) as it:
        await it.add(1, age_s=2_000, max_files=1)
        assert await it.files.read("file-1") is None

        assert await it.files.stored(ALICE) == Stored(0, 0)
        assert await it.add(2, max_files=1)

        assert await it.listed() == await it.listed(owner=None) == ["file-2"]


async def test_lists_are_by_owner_purpose_and_order(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        await it.add(1)
        await it.add(2, purpose=Purpose.BATCH_OUTPUT)
        await it.add(3, owner="team:t")
        await it.add(4, expires_at=it.now + 10)  # the first to expire, the last to be made

        assert await it.listed() == ["file-4", "file-2", "file-1"]
        assert await it.listed(is_oldest_first=True) == ["file-1", "file-2", "file-4"]
        assert await it.listed(purpose=Purpose.BATCH_OUTPUT) == ["file-2"]
        assert await it.listed(owner=None) == ["file-4", "file-3", "file-2", "file-1"]
        assert await it.listed(after="file-4", limit=1) == ["file-2"]
        assert await it.listed(after="file-1", is_oldest_first=True) == ["file-2", "file-4"]


@pytest.mark.parametrize("is_oldest_first", [False, True])
async def test_whoever_deletes_while_paging_meets_every_file_once(
    valkey: RedisServer, is_oldest_first: bool
) -> None:
    async with cabinet(valkey) as it:
        for number in range(10, 40):
            await it.add(number)

        met: list[str] = []
        while page := await it.listed(
            after=met[-1] if met else None, limit=7, is_oldest_first=is_oldest_first
        ):
            met += page
            for file_id in page:
                assert await it.files.delete(file_id)

        expected = [f"file-{number}" for number in range(10, 40)]
        assert met == (expected if is_oldest_first else expected[::-1])


async def test_a_deleted_file_is_gone_at_once(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        await it.add()

        assert await it.files.delete("file-1")

        assert await it.files.read("file-1") is None
        assert await it.listed() == await it.listed(owner=None) == []
        assert not await it.files.delete("file-1")
        assert await it.files.due() == ["file-1"]


async def test_a_file_stays_while_a_batch_reads_it(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        await it.add(1)
        await it.add(2)
        await it.read_by("batch_1")

        with pytest.raises(BadRequest, match="batch_1"):
            await it.files.delete("file-1")

        assert await it.files.read("file-1") is not None
        assert await it.files.delete("file-2")
        await it.batches.step("batch_1", Status.COMPLETED, from_=list(Status))
        assert await it.files.delete("file-1")


async def test_a_content_is_due_if_its_file_was_never_finished(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        await it.files.promise("file-1", lives_s=-1)
        await it.files.promise("file-2", lives_s=-1)
        await it.files.promise("file-3", lives_s=100)
        await it.add(2)

        assert await it.files.due() == ["file-1"]

        await it.files.gone(["file-1"])
        assert await it.files.due() == []
        await it.files.gone([])


async def test_an_expired_content_waits_for_the_batch_that_reads_it(valkey: RedisServer) -> None:
    async with cabinet(valkey) as it:
        for number in (1, 2, 3):
            await it.add(number)
        await it.read_by("batch_1", "file-2")
        with valkey.client() as client:  # as if it were a month later
            client.zadd(NAMES.contents, {f"file-{number}": number for number in (1, 2, 3)})

        assert await it.files.due() == ["file-1", "file-3"]
        assert await it.files.due(limit=1) == ["file-1"]
        await it.batches.step("batch_1", Status.EXPIRED, from_=list(Status))
        assert await it.files.due() == ["file-1", "file-2", "file-3"]


async def test_a_sweep_leaves_what_is_still_wanted(valkey: RedisServer, tmp_path: Path) -> None:
    store = FileStore(tmp_path.as_uri())
    for number in range(250):
        with store.writer(content_path(f"file-{number}")) as file:
            file.write(b"x")
    async with cabinet(valkey) as it:
        await it.add(0)
        for number in range(1, 250):
            await it.files.promise(f"file-{number}", lives_s=-1)
        await it.files.promise("never written", lives_s=-1)

        assert await sweep(it.files, store) == 250

        assert [path.name for path in (tmp_path / "files").iterdir()] == ["file-0"]
        assert await sweep(it.files, store) == 0


async def test_a_sweep_that_the_store_breaks_off_is_done_again(valkey: RedisServer) -> None:
    class Away(FileStore):
        @override
        def delete(self, path: str) -> None:
            raise StoreUnavailable("away")

    async with cabinet(valkey) as it:
        await it.files.promise("file-1", lives_s=-1)

        with pytest.raises(StoreUnavailable):
            await sweep(it.files, Away("memory://"))

        assert await it.files.due() == ["file-1"]
