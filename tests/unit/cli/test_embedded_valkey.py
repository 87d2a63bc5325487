from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from embedpool_cli.children import Child, end
from embedpool_cli.data_directory import ClaimedDirectory
from embedpool_cli.embedded_valkey import EmbeddedValkey, embedded_valkey
from embedpool_shared.errors import ConfigInvalid
from embedpool_shared.redis import Line, RedisAddress, connection_pool


def said_nothing(_: str) -> None:
    raise AssertionError


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[tuple[EmbeddedValkey, Child]]:
    with ClaimedDirectory(directory) as data, embedded_valkey(data) as server:
        child = Child(server.launch(os.environ))
        try:
            await server.until_up(child, say=said_nothing)
            yield server, child
        finally:
            await end([child], patience_s=10)


async def asked(server: EmbeddedValkey, *command: Any) -> Any:
    line = Line(connection_pool(RedisAddress(server.url), client_name="test"))
    try:
        return await line.call(*command)
    finally:
        await line.close()


async def test_it_answers_on_a_socket_only_its_owner_can_open(tmp_path: Path) -> None:
    async with started(tmp_path) as (server, _):
        assert server.socket_path == tmp_path / "valkey.sock"
        assert server.socket_path.stat().st_mode & 0o777 == 0o600
        assert await asked(server, "PING") == b"PONG"


async def test_it_keeps_what_it_has_when_it_is_stopped(tmp_path: Path) -> None:
    async with started(tmp_path) as (server, child):
        await asked(server, "SET", "name", "value")
        await end([child], patience_s=10)
        assert child.ended.result() == 0

    async with started(tmp_path) as (server, _):
        assert await asked(server, "GET", "name") == b"value"


async def test_it_starts_again_on_the_same_data_after_a_crash(tmp_path: Path) -> None:
    async with started(tmp_path) as (server, child):
        await asked(server, "SET", "name", "value")
        await asked(server, "WAITAOF", 1, 0, 5_000)
        child.signal(signal.SIGKILL)
        await child.ended

        again = Child(server.launch(os.environ))
        await server.until_up(again, say=said_nothing)

        assert await asked(server, "GET", "name") == b"value"
        await end([again], patience_s=10)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendonly", b"yes"),
        ("appendfsync", b"everysec"),
        ("auto-aof-rewrite-min-size", b"1073741824"),
        ("no-appendfsync-on-rewrite", b"yes"),
        ("save", b""),
        ("maxmemory-policy", b"noeviction"),
        ("port", b"0"),
    ],
)
async def test_it_is_set_up_for_work_that_must_not_be_lost(
    tmp_path: Path, setting: str, value: bytes
) -> None:
    async with started(tmp_path) as (server, _):
        assert await asked(server, "CONFIG", "GET", setting) == [setting.encode(), value]


async def test_its_files_are_its_owners_alone_wherever_they_are(tmp_path: Path) -> None:
    async with started(tmp_path) as (server, _):
        await asked(server, "SET", "name", "a caller's text")

    modes = modes_of_files(tmp_path)
    assert any(name.endswith(".aof") for name in modes)
    assert all(mode & 0o077 == 0 for mode in modes.values())


def modes_of_files(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["with space", "100%", "a#b?c", "ü"])
async def test_any_directory_name_will_do(tmp_path: Path, name: str) -> None:
    async with started(tmp_path / name) as (server, _):
        assert await asked(server, "PING") == b"PONG"


async def test_a_path_too_long_for_a_socket_gets_a_private_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)

    async with started(deep) as (server, _):
        private = server.socket_path.parent
        assert private.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(server.socket_path)) <= 107
        assert await asked(server, "PING") == b"PONG"
        assert (deep / "appendonlydir").is_dir()

    assert not private.exists()


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
async def test_the_longest_path_that_fits_is_used(tmp_path: Path, length: int, fits: bool) -> None:
    spare = length - len(os.fsencode(tmp_path)) - len("/") - len("/valkey.sock")
    exact = tmp_path / ("d" * spare)

    async with started(exact) as (server, _):
        assert (server.socket_path == exact / "valkey.sock") == fits
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(server.socket_path))


async def test_one_that_cannot_start_is_quoted_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a directory")

    with pytest.raises(ConfigInvalid) as refusal:
        async with started(tmp_path):
            pass

    assert "embedded Valkey did not start" in refusal.value.message
    assert str(tmp_path / "valkey.log") in refusal.value.message


async def test_nobody_else_gets_the_data_while_it_still_runs(tmp_path: Path) -> None:
    data = ClaimedDirectory(tmp_path)
    with embedded_valkey(data) as server:
        child = Child(server.launch(os.environ))
        await server.until_up(child, say=said_nothing)
        # What is left when the process that claimed the directory is gone.
        data.close()

        with pytest.raises(ConfigInvalid, match="in use"):
            ClaimedDirectory(tmp_path)

        await end([child], patience_s=10)
    ClaimedDirectory(tmp_path).close()
