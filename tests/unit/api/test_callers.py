"""Who is let in, by what they send."""

from __future__ import annotations

import asyncio

import pytest

from embedpool_api.callers import ANYBODY, MASTER, Caller, Gate, credential, refuse_strangers
from embedpool_shared.errors import BadRequest, InvalidApiKey

KEY = "sk-a-long-and-random-master-key"
HOME = {b"host": b"localhost:4000"}


def caller(gate: Gate, headers: dict[bytes, bytes]) -> Caller:
    return asyncio.run(gate.identify(headers))


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + KEY.encode()},
        {b"authorization": b"bearer   " + KEY.encode() + b" "},
        {b"api-key": KEY.encode()},
        {b"authorization": b"Bearer " + KEY.encode(), b"api-key": KEY.encode()},
        {b"authorization": b"Bearer ", b"api-key": KEY.encode()},
        {b"authorization": b"Bearer", b"api-key": KEY.encode()},
    ],
)
def test_the_master_key_is_taken_from_either_header(headers: dict[bytes, bytes]) -> None:
    assert caller(Gate(KEY), headers) is MASTER


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer wrong"},
        {b"authorization": b"Bearer " + KEY[:-1].encode()},
        {b"authorization": b"Bearer " + KEY.encode() + b"x"},
        {b"authorization": b"Bearer " + b"x" * 10_000},
        {b"authorization": b"Bearer \xff\xfe"},
        {b"authorization": b"Basic " + KEY.encode()},
        {b"authorization": KEY.encode()},
        {b"api-key": b"wrong"},
    ],
)
def test_anything_else_is_an_invalid_key_whose_error_holds_no_key(
    headers: dict[bytes, bytes],
) -> None:
    with pytest.raises(InvalidApiKey, match=r"^Invalid API key") as caught:
        caller(Gate(KEY), headers | HOME)

    assert KEY[:-1] not in caught.value.message
    assert len(caught.value.message) < 100


def test_two_different_keys_are_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="different keys"):
        credential({b"authorization": b"Bearer a", b"api-key": b"b"})


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:4000", "LOCALHOST", "127.0.0.1:4000", "127.9.9.9", "[::1]:4000"],
)
@pytest.mark.parametrize("key", [None, ""])
def test_without_a_master_key_this_machine_is_let_in_whatever_bearer_it_sends(
    host: str, key: str | None
) -> None:
    headers = {b"host": host.encode(), b"authorization": b"Bearer anything"}

    assert caller(Gate(key), headers) is ANYBODY
    assert not ANYBODY.is_admin


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"evil.example:4000",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"10.0.0.1",
        b"0.0.0.0:4000",
        b"[::2]:4000",
        b"[::1]evil",
        b"[::1",
        b"\xff",
        b"localhost@evil.example",
    ],
)
def test_without_a_master_key_no_other_name_is_answered(host: bytes) -> None:
    with pytest.raises(InvalidApiKey, match="only as localhost"):
        caller(Gate(None), {b"host": host})
    with pytest.raises(InvalidApiKey):
        caller(Gate(None), {})


@pytest.mark.parametrize("name", [b"forwarded", b"x-forwarded-for", b"x-forwarded-host"])
def test_without_a_master_key_nothing_is_answered_through_a_proxy(name: bytes) -> None:
    with pytest.raises(InvalidApiKey, match="proxy"):
        caller(Gate(None), HOME | {name: b""})


def test_with_a_master_key_proxies_and_names_do_not_matter() -> None:
    headers = {b"host": b"api.example", b"x-forwarded-for": b"1.2.3.4", b"api-key": KEY.encode()}

    assert caller(Gate(KEY), headers) is MASTER


def test_a_caller_with_a_list_of_models_may_use_only_those() -> None:
    assert ANYBODY.may_use("anything")
    assert Caller(account="k", models=frozenset({"a"})).may_use("a")
    assert not Caller(account="k", models=frozenset({"a"})).may_use("b")


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"http://localhost.evil.example"]
)
def test_without_a_master_key_another_sites_page_is_refused(origin: bytes) -> None:
    with pytest.raises(InvalidApiKey, match="other site"):
        refuse_strangers({b"host": b"localhost:4000", b"origin": origin})


def test_a_page_of_this_machine_may_ask() -> None:
    refuse_strangers({b"host": b"localhost:4000", b"origin": b"http://127.0.0.1:8080"})
