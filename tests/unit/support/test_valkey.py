"""The Redis server of the tests can be killed, paused and found again with its data."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import redis

from support.tls import make_tls_files
from support.tools import tool
from support.valkey import RedisServer

if TYPE_CHECKING:
    from pathlib import Path


def test_each_test_gets_an_empty_server(valkey: RedisServer) -> None:
    with valkey.client() as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
        valkey.restore()
        assert client.dbsize() == 0


def test_a_server_that_a_test_killed_is_back_for_the_next(valkey: RedisServer) -> None:
    valkey.kill()
    assert not valkey.is_running

    valkey.restore()

    with valkey.client() as client:
        assert client.ping()


def test_with_an_append_only_file_data_survive_a_kill() -> None:
    with RedisServer(appendonly=True, settings={"appendfsync": "always"}) as server:
        with server.client() as client:
            client.set("kept", "yes")
        server.kill()
        server.start()

        with server.client() as client:
            assert client.get("kept") == b"yes"
    assert not server.directory.exists()


def test_a_paused_server_is_silent_until_it_goes_on(valkey: RedisServer) -> None:
    with redis.Redis.from_url(valkey.url, socket_timeout=0.05) as client:
        client.ping()
        valkey.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()

        valkey.resume()

        assert client.ping()


def test_a_server_that_cannot_start_says_why() -> None:
    server = RedisServer(settings={"no-such-setting": "1"})

    with pytest.raises(AssertionError, match="no-such-setting"), server:
        pass
    assert not server.directory.exists()


def test_debians_server_speaks_tls_to_its_acl_user(tmp_path: Path) -> None:
    binary = tool("redis-server", package="redis-server")
    files = make_tls_files(tmp_path)

    with RedisServer(binary=binary, tls=files, users=["app on >secret ~* &* +@all"]) as server:
        url = f"rediss://app:secret@localhost:{server.tls_port}"
        with redis.Redis.from_url(url, ssl_ca_certs=str(files.ca)) as client:
            assert client.ping()
        with (
            redis.Redis.from_url(url, ssl_cert_reqs=ssl.CERT_REQUIRED) as distrustful,
            pytest.raises(redis.ConnectionError, match="certificate"),
        ):
            distrustful.ping()
