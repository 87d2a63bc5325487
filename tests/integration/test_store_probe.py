"""Processes agree on one file store, and whoever sees another one knows."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from embedpool_shared.errors import QueueUnavailable, StoreUnavailable
from embedpool_shared.file_store import FileStore
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from embedpool_shared.store_probe import LIVES_MS, StoreProbe, same_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.valkey import RedisServer

NAMES = Names()


class Away(FileStore):
    """A store nobody reaches."""

    @override
    def mark(self) -> str:
        raise StoreUnavailable("away")


@asynccontextmanager
async def lined(valkey: RedisServer) -> AsyncIterator[Line]:
    line = Line(connection_pool(RedisAddress(valkey.url), client_name="t"))
    try:
        yield line
    finally:
        await line.close()


def store_in(folder: Path, name: str) -> FileStore:
    return FileStore((folder / name).as_uri())


async def test_the_first_process_decides_and_all_others_compare(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with lined(valkey) as line:
        assert await same_store(line, NAMES, store_in(tmp_path, "one"))
        assert await same_store(line, NAMES, store_in(tmp_path, "one"))

        assert not await same_store(line, NAMES, store_in(tmp_path, "other"))


async def test_only_processes_that_agree_keep_the_mark_alive(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with lined(valkey) as line:
        await same_store(line, NAMES, store_in(tmp_path, "one"))
        with valkey.client() as client:
            client.pexpire(NAMES.file_store, 60_000)

            await same_store(line, NAMES, store_in(tmp_path, "other"))
            assert client.pttl(NAMES.file_store) <= 60_000

            await same_store(line, NAMES, store_in(tmp_path, "one"))
            assert 60_000 < client.pttl(NAMES.file_store) <= LIVES_MS


async def test_once_nobody_renews_it_the_mark_is_whoevers_is_there(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with lined(valkey) as line:
        await same_store(line, NAMES, store_in(tmp_path, "replaced"))
        probe = StoreProbe(line, NAMES, store_in(tmp_path, "new"))
        await probe.look()
        with pytest.raises(StoreUnavailable):
            probe.require()
        with valkey.client() as client:
            client.delete(NAMES.file_store)  # as its end does

        await probe.look()

        assert probe.is_same
        probe.require()


async def test_a_process_that_sees_another_store_says_so_once(
    valkey: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with lined(valkey) as line:
        await same_store(line, NAMES, store_in(tmp_path, "one"))
        probe = StoreProbe(line, NAMES, store_in(tmp_path, "other"))
        probe.require()

        await probe.look()
        await probe.look()

        said = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert len(said) == 1
        assert "files.url" in said[0].getMessage()
        with pytest.raises(StoreUnavailable, match=r"files\.url"):
            probe.require()


async def test_what_nobody_can_say_changes_nothing(valkey: RedisServer, tmp_path: Path) -> None:
    async with lined(valkey) as line:
        away = StoreProbe(line, NAMES, Away("memory://"))
        await away.look()
        assert away.is_same

        probe = StoreProbe(line, NAMES, store_in(tmp_path, "other"))
        await same_store(line, NAMES, store_in(tmp_path, "one"))
        await probe.look()
        valkey.kill()
        await probe.look()

        assert not probe.is_same
        with pytest.raises(QueueUnavailable):
            await same_store(line, NAMES, store_in(tmp_path, "one"))
