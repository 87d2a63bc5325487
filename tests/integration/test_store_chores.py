"""What nobody wants any more leaves the file store; what is wanted, and other stores, stay."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from typing_extensions import override

from embedpool_shared.errors import StoreUnavailable
from embedpool_shared.file_records import content_path
from embedpool_shared.file_store import NEW, StoredFile
from embedpool_shared.store_probe import StoreProbe
from embedpool_worker.bulk.service import ABANDONED_S, BulkService
from integration.batches import Batches, BulkSide, batches_on, line_of, means_of
from integration.one_process import Embedder, Site
from support.stores import FolderStore

if TYPE_CHECKING:
    from support.valkey import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")

DUE: Final = "file-due"


def nobody(*_: Any) -> Any:
    pytest.fail("only the chores are done")


def service(site: Site, store: FolderStore, *, is_same: bool = True) -> BulkService:
    """The bulk side of a worker as its chores know it."""
    batches = Batches(site, store)
    means = means_of(batches, ThreadPoolExecutor(1), nobody, rows_ended=nobody)
    probe = StoreProbe(site.line("probe"), site.names, store)
    probe.is_same = is_same
    return BulkService(means, nobody, probe, worker_id="w1")


async def littered(site: Site, folder: Path) -> FolderStore:
    """A store with a content that is due, and with what two crashes left half-written."""
    batches = batches_on(site, folder)
    with batches.store.writer(content_path(DUE)) as file:
        file.write(b"x")
    await batches.files.promise(DUE, lives_s=-1)
    for name, age_s in (("young", ABANDONED_S - 60), ("old", ABANDONED_S + 60)):
        left = folder / NEW / name
        left.write_bytes(b"half")
        os.utime(left, (0, left.stat().st_mtime - age_s))
    return batches.store


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_what_is_due_goes_and_what_crashes_left_a_day_ago(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        store = await littered(site, tmp_path)

        await service(site, store).sweep()

        assert left_in(tmp_path) == {f"{NEW}/young"}
        assert await batches_on(site, tmp_path).files.due() == []


async def test_whoever_sees_another_store_strikes_nothing_off_the_list(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        store = await littered(site, tmp_path)
        before = left_in(tmp_path)

        await service(site, store, is_same=False).sweep()

        assert left_in(tmp_path) == before
        assert await batches_on(site, tmp_path).files.due() == [DUE]


async def test_a_store_that_is_away_is_tidied_the_next_time(
    valkey: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(FolderStore):
        @override
        def delete_abandoned(self, *, older_than_s: float) -> int:
            raise StoreUnavailable("away")

    async with Site(valkey.url) as site:
        await littered(site, tmp_path)

        await service(site, Away(tmp_path.as_uri())).sweep()

        assert left_in(tmp_path) == {f"{NEW}/young", f"{NEW}/old"}
        assert "file_sweep_failed" in caplog.text


async def test_redis_knows_when_a_result_goes_before_its_first_byte_is_written(
    valkey: RedisServer, tmp_path: Path
) -> None:
    class Watched(FolderStore):
        promised: list[bool]

        @override
        def writer(self, path: str) -> StoredFile:
            folder, _, file_id = path.partition("/")
            if folder == "files":
                with valkey.client() as client:
                    self.promised.append(client.zscore(site.names.contents, file_id) is not None)
            return super().writer(path)

    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        created = await batches.create([line_of("1", "text"), line_of("2", "")])
        batches.store = Watched(tmp_path.as_uri())
        batches.store.promised = []
        bulk = BulkSide(batches, site.worker(Embedder()))

        await batches.ended(created)
        await bulk.stop()

        assert batches.store.promised == [True, True]
