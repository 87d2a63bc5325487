"""A head is taken for known only where a parser would read the same."""

from __future__ import annotations

from typing import Final

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedpool_api.heads import MAX_HEAD_BYTES, KnownHead, known_head

FIRST: Final = b'{"input":"x"}'


class Parsed:
    """What httptools reads of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.messages = 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


def request(
    body: bytes = FIRST, *, length: bytes | None = None, extra: bytes = b"", name: bytes = b""
) -> bytes:
    return b"POST /v1/embeddings HTTP/1.1\r\nHost: here\r\n%b: %b\r\n%bAccept: */*\r\n\r\n%b" % (
        name or b"Content-Length",
        b"%d" % len(body) if length is None else length,
        extra,
        body,
    )


def known(data: bytes) -> KnownHead | None:
    return known_head(data, Parsed(data).headers)


def the_known(data: bytes) -> KnownHead:
    found = known(data)
    assert found is not None
    return found


@given(st.binary(max_size=12_000))
@example(b"")
@example(b"\r\n\r\n")
def test_the_same_head_with_any_other_body_is_known(body: bytes) -> None:
    head = the_known(request())

    assert head.body_of(request(body)) == body
    assert head.headers == {b"host": b"here", b"accept": b"*/*"}


@given(st.data())
def test_whatever_is_taken_for_known_a_parser_reads_the_same(data: st.DataObject) -> None:
    head = the_known(request())
    sent = bytearray(request(data.draw(st.binary(max_size=40))))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(sent) - 1))
        sent[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))

    body = head.body_of(bytes(sent))

    if body is not None:
        parsed = Parsed(bytes(sent))
        assert parsed.messages == 1
        assert parsed.body == body
        kept = dict(parsed.headers)
        del kept[b"content-length"]
        assert kept == head.headers


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request()[:-1], id="less than the body"),
        pytest.param(request() + b"P", id="more than the body"),
        pytest.param(request() * 2, id="two at once"),
        pytest.param(request()[:30], id="half a head"),
        pytest.param(request(length=b"+13"), id="a sign"),
        pytest.param(request(length=b"13 "), id="a space"),
        pytest.param(request(length=b""), id="no length"),
        pytest.param(request(length=b"0" * 12 + b"13"), id="too long a number"),
        pytest.param(request(extra=b"X-Embedpool-Class: bulk\r\n"), id="another header"),
        pytest.param(request().replace(b"POST", b"GETS"), id="another method"),
        pytest.param(request().replace(b"*/*", b"a/*"), id="another value"),
    ],
)
def test_whatever_differs_is_not_known(sent: bytes) -> None:
    assert the_known(request()).body_of(sent) is None


@pytest.mark.parametrize(
    "extra",
    [
        b"Expect: 100-continue\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Upgrade: websocket\r\n",
        b"X-Twice: 1\r\nX-Twice: 2\r\n",
        b"X-Long: %b\r\n" % (b"x" * MAX_HEAD_BYTES),
    ],
)
def test_a_head_that_wants_more_is_never_remembered(extra: bytes) -> None:
    assert known(request(extra=extra)) is None


def test_a_chunked_body_is_never_remembered() -> None:
    sent = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"

    assert known(sent) is None


@pytest.mark.parametrize("name", [b"content-length", b"CONTENT-LENGTH", b"Content-LENGTH"])
def test_a_length_is_found_in_any_spelling(name: bytes) -> None:
    assert the_known(request(name=name)).body_of(request(b"xyz", name=name)) == b"xyz"


def test_a_length_in_another_header_s_value_is_none() -> None:
    extra = b"X-Note: content-length: 5\r\n"

    assert the_known(request(extra=extra)).body_of(request(b"xyz", extra=extra)) == b"xyz"
