"""What counts as a key, and what as this machine."""

from __future__ import annotations

import pytest

from embedpool_api.credentials import MAX_CREDENTIAL_BYTES, credential, refuse_strangers
from embedpool_shared.errors import BadRequest, InvalidApiKey

HOME = {b"host": b"localhost:4000"}


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer a-key"},
        {b"authorization": b"bearer   a-key "},
        {b"api-key": b" a-key "},
        {b"authorization": b"Bearer a-key", b"api-key": b"a-key"},
        {b"authorization": b"Bearer ", b"api-key": b"a-key"},
        {b"authorization": b"Bearer", b"api-key": b"a-key"},
        {b"authorization": b"Bearer a-key", b"api-key": b""},
    ],
)
def test_a_key_is_taken_from_either_header(headers: dict[bytes, bytes]) -> None:
    assert credential(headers) == b"a-key"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer    ", b"api-key": b"  "},
    ],
)
def test_an_empty_bearer_counts_as_none(headers: dict[bytes, bytes]) -> None:
    assert credential(headers) is None


def test_two_different_keys_are_a_bad_request_that_names_neither() -> None:
    headers = {b"authorization": b"Bearer canary-1", b"api-key": b"canary-2"}

    with pytest.raises(BadRequest, match="different keys") as caught:
        credential(headers)

    assert "canary" not in caught.value.message


@pytest.mark.parametrize("value", [b"Basic canary", b"canary", b"Bearer\tcanary"])
def test_another_scheme_is_an_invalid_key(value: bytes) -> None:
    with pytest.raises(InvalidApiKey, match=r"^Invalid API key: use") as caught:
        credential({b"authorization": value})

    assert "canary" not in caught.value.message


def test_what_is_longer_than_any_key_is_an_invalid_one() -> None:
    longest = b"k" * MAX_CREDENTIAL_BYTES

    assert credential({b"authorization": b"Bearer " + longest}) == longest
    for headers in ({b"authorization": b"Bearer k" + longest}, {b"api-key": b"k" + longest}):
        with pytest.raises(InvalidApiKey, match=r"^Invalid API key: it is longer") as caught:
            credential(headers)
        assert len(caught.value.message) < 100


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
def test_no_other_name_is_this_machine(host: bytes) -> None:
    with pytest.raises(InvalidApiKey, match="only as localhost"):
        refuse_strangers({b"host": host})
    with pytest.raises(InvalidApiKey):
        refuse_strangers({})


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:4000", "LOCALHOST", "127.0.0.1:4000", "127.9.9.9", "[::1]:4000"],
)
def test_loopback_names_are_this_machine(host: str) -> None:
    refuse_strangers({b"host": host.encode()})


@pytest.mark.parametrize("name", [b"forwarded", b"x-forwarded-for", b"x-forwarded-host"])
def test_whoever_comes_through_a_proxy_is_a_stranger(name: bytes) -> None:
    with pytest.raises(InvalidApiKey, match="proxy"):
        refuse_strangers(HOME | {name: b""})


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"http://localhost.evil.example"]
)
def test_another_sites_page_is_a_stranger(origin: bytes) -> None:
    with pytest.raises(InvalidApiKey, match="other site"):
        refuse_strangers(HOME | {b"origin": origin})


def test_a_page_of_this_machine_may_ask() -> None:
    refuse_strangers(HOME | {b"origin": b"http://127.0.0.1:8080"})
