"""The fault proxy passes bytes on, or fails to, exactly as told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import redis

from support.processes import answers_ok, wait_until
from support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fake_provider import FakeProvider
    from support.valkey import RedisServer


@pytest.fixture
def proxy(valkey: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy.in_thread(valkey.socket_path) as proxy:
        yield proxy


def client_of(proxy: FaultProxy, *, timeout_s: float = 5.0) -> redis.Redis:
    return redis.Redis(port=proxy.port, socket_timeout=timeout_s)


def test_what_is_sent_arrives(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        client.set("k", b"x" * 1_000_000)

        assert client.get("k") == b"x" * 1_000_000
        assert proxy.open_connections == 1
    wait_until(lambda: proxy.open_connections == 0, patience_s=5, what="the connection's end")


def test_it_leads_to_tcp_servers_too(fake_provider: FakeProvider) -> None:
    port = int(fake_provider.url.rpartition(":")[2])

    with FaultProxy.in_thread(("127.0.0.1", port)) as proxy:
        assert answers_ok(f"http://127.0.0.1:{proxy.port}/_stats")


def test_latency_delays_both_ways(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        client.ping()
        proxy.latency_s = 0.02
        began_at = time.monotonic()
        client.ping()

    assert time.monotonic() - began_at >= 0.04


def test_a_narrow_line_takes_its_time(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        client.set("k", b"x" * 10_000)
        proxy.bytes_per_s = 100_000
        began_at = time.monotonic()

        assert len(client.get("k") or b"") == 10_000
    assert time.monotonic() - began_at >= 0.1


def test_a_connection_is_reset_after_so_many_bytes(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        client.set("k", b"x" * 1_000)
        proxy.reset_after_bytes = 500

        with pytest.raises(redis.ConnectionError):
            client.get("k")


def test_half_open_is_silence_and_then_goes_on(proxy: FaultProxy) -> None:
    with client_of(proxy) as patient, client_of(proxy, timeout_s=0.05) as hasty:
        patient.ping()
        hasty.ping()
        proxy.stall()
        with pytest.raises(redis.TimeoutError):
            hasty.ping()
        assert proxy.open_connections >= 1

        proxy.flow()

        assert patient.ping()


def test_a_cut_ends_every_connection_and_lets_new_ones_in(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        client.ping()
        connection = client.connection_pool.get_connection()
        proxy.cut()
        wait_until(lambda: proxy.open_connections == 0, patience_s=5, what="the cut")

        with pytest.raises(redis.ConnectionError):
            connection.read_response()
        client.connection_pool.release(connection)
        assert client.ping()
