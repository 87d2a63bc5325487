from __future__ import annotations

import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from embedpool_cli.pool_client import PoolClient, Refused, Unreachable
from support.faults import Ending
from support.http_server import Response
from support.ports import free_port
from unit.cli.fake_pool import MASTER, FakePool, a_key, fake_pool, refusal


@pytest.fixture
def pool() -> Iterator[FakePool]:
    with fake_pool(a_key()) as running:
        yield running


def why_unreachable(url: str, *, patience_s: float = 5.0) -> str:
    client = PoolClient(url, MASTER, patience_s=patience_s)
    with pytest.raises(Unreachable) as caught:
        client.get("/key/list")
    return caught.value.message


def test_a_question_carries_the_key_and_leaves_out_what_was_not_said(pool: FakePool) -> None:
    client = PoolClient(pool.url, MASTER)

    client.get("/key/info", {"key": "a&b=c d", "page": None})
    client.post("/key/delete", {"keys": ["é"]})

    assert pool.asked == [
        ("GET", "/key/info", {"key": "a&b=c d"}),
        ("POST", "/key/delete", {"keys": ["é"]}),
    ]


def test_a_pool_behind_a_prefix_is_asked_there(pool: FakePool) -> None:
    pool.override = Response(b"{}")

    assert PoolClient(f"{pool.url}/embed", MASTER).get("/key/list") == {}
    assert pool.last[1] == "/embed/key/list"


def test_a_refusal_says_what_the_pool_said(pool: FakePool) -> None:
    pool.override = refusal(400, "duration: nobody can read that")

    with pytest.raises(Refused, match="duration: nobody can read that") as caught:
        PoolClient(pool.url, MASTER).post("/key/generate", {})

    assert caught.value.status == 400


@pytest.mark.parametrize("body", [b"{}", b'{"error": "x"}', b'{"error": {"message": 3}}'])
def test_a_refusal_without_words_says_its_status(pool: FakePool, body: bytes) -> None:
    pool.override = Response(body, 503)

    with pytest.raises(Refused, match="503"):
        PoolClient(pool.url, MASTER).get("/key/list")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(pool: FakePool, status: int) -> None:
    pool.override = Response(b"{}", status, {"location": f"{pool.url}/elsewhere"})

    assert "leads elsewhere" in why_unreachable(pool.url)
    assert [path for _, path, _ in pool.asked] == ["/key/list"]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b"", b"[" * 100_000])
def test_whoever_does_not_answer_in_json_is_no_pool(pool: FakePool, body: bytes) -> None:
    pool.override = Response(body, HTTPStatus.OK)

    assert "is no embedpool" in why_unreachable(pool.url)


@pytest.mark.parametrize("ending", [Ending.CUT, Ending.RESET])
def test_a_broken_connection_is_said(pool: FakePool, ending: Ending) -> None:
    pool.override = Response(b'{"keys": []}', ending=ending)

    assert "cannot reach a pool" in why_unreachable(pool.url)


def test_silence_ends_with_the_patience(pool: FakePool) -> None:
    pool.override = Response(b"{}", ending=Ending.HANG)

    assert "no answer within 0.05 s" in why_unreachable(pool.url, patience_s=0.05)


def test_where_nobody_listens_the_address_is_in_the_question() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    assert why_unreachable(url).endswith(f"is embedpool serve running at {url}?")


def test_a_host_that_cannot_be_is_unreachable() -> None:
    assert "cannot reach" in why_unreachable(f"http://{'a' * 64}.example:1")


def test_what_does_not_speak_http_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"

        assert "cannot reach a pool" in why_unreachable(url, patience_s=0.05)


def test_a_proxy_in_the_environment_is_not_asked(
    pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")

    assert PoolClient(pool.url, MASTER).get("/key/list", {"page": 1, "size": 9})["keys"]


def test_no_repr_and_no_error_holds_the_key(pool: FakePool) -> None:
    pool.override = refusal(401, "Invalid API key")

    assert MASTER not in repr(PoolClient(pool.url, MASTER))
    with pytest.raises(Refused) as caught:
        PoolClient(pool.url, MASTER).get("/key/list")
    assert MASTER not in repr(caught.value)


def test_of_what_is_long_only_the_start_is_read(pool: FakePool) -> None:
    pool.override = Response(b"x" * 100_000)
    client = PoolClient(pool.url, MASTER)

    assert client.start_of("/v1/files/f/content", max_bytes=1_000) == b"x" * 1_000
    assert client.start_of("/v1/files/f/content", max_bytes=200_000) == b"x" * 100_000


def test_where_a_start_is_refused_the_reason_is_read(pool: FakePool) -> None:
    pool.override = refusal(404, "no such file")

    with pytest.raises(Refused, match="no such file"):
        PoolClient(pool.url, MASTER).start_of("/v1/files/f/content", max_bytes=1_000)
