"""Bodies are bounded, every answer has an id, and no bug ends as silence."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedpool_api.middleware import (
    HEADERS,
    REQUEST_ID,
    Edge,
    read_body,
    request_id_of,
)
from embedpool_api.passage import ClientDisconnected
from embedpool_shared.errors import BadRequest, BodyTooLarge, NotJson


def read(
    chunks: Sequence[bytes | None], headers: dict[bytes, bytes] | None = None, limit: int = 10
) -> bytes:
    """Read a body that arrives in `chunks`; None is the client hanging up."""
    messages: list[Message] = [
        {"type": "http.disconnect"}
        if chunk is None
        else {"type": "http.request", "body": chunk, "more_body": place < len(chunks) - 1}
        for place, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        return messages.pop(0)

    return asyncio.run(read_body(receive, headers or {}, max_bytes=limit))


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=6))
def test_a_body_is_read_whole_up_to_the_limit_and_no_further(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    if len(whole) <= 10:
        assert read(chunks) == whole
    else:
        with pytest.raises(BodyTooLarge, match="10 bytes"):
            read(chunks)


@pytest.mark.parametrize("length", [b"11", b"9" * 5_000])
def test_an_announced_length_is_refused_before_anything_is_read(length: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        read([], {b"content-length": length})


@pytest.mark.parametrize("length", [b"1", b"-5", b"many", b""])
def test_a_length_that_says_nothing_useful_is_not_believed(length: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        read([b"x" * 11], {b"content-length": length})


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"identity, gzip"])
def test_an_encoded_body_is_refused(encoding: bytes) -> None:
    with pytest.raises(NotJson):
        read([b"x"], {b"content-encoding": encoding})


@pytest.mark.parametrize("encoding", [b"", b"identity", b"Identity"])
def test_a_body_as_it_is_is_read(encoding: bytes) -> None:
    assert read([b"x"], {b"content-encoding": encoding}) == b"x"


@pytest.mark.parametrize("chunks", [[None], [b"x", None]])
def test_a_client_that_hangs_up_while_it_sends_is_noticed(chunks: list[bytes | None]) -> None:
    with pytest.raises(ClientDisconnected):
        read(chunks)


@pytest.mark.parametrize("given_id", [b"a", b"A-b_c.9", b"x" * 128])
def test_a_sane_request_id_is_kept(given_id: bytes) -> None:
    assert request_id_of({b"x-request-id": given_id}) == given_id.decode()


@pytest.mark.parametrize("given_id", [None, b"", b"x" * 129, b"a b", b"a\r\nb: c", b"\xff"])
def test_any_other_is_replaced_by_a_new_one(given_id: bytes | None) -> None:
    headers = {} if given_id is None else {b"x-request-id": given_id}

    first, second = request_id_of(headers), request_id_of(headers)

    assert first != second
    assert request_id_of({b"x-request-id": first.encode()}) == first


def answered(app: ASGIApp, headers: Sequence[tuple[bytes, bytes]] = ()) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {"type": "http", "path": "/", "method": "GET", "headers": list(headers)}
    asyncio.run(Edge(app)(scope, receive, send))
    return sent


START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}


def raising(error: BaseException, *before: dict[str, Any]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in before:
            await send(dict(message))
        raise error

    return app


def test_what_an_app_answers_passes_with_the_request_id_added() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope[HEADERS] == {b"x-request-id": b"mine"}
        assert scope[REQUEST_ID] == "mine"
        await send(dict(START))
        await send({"type": "http.response.body", "body": b"x"})

    start, body = answered(app, [(b"x-request-id", b"mine")])

    assert start["headers"] == [(b"a", b"b"), (b"x-request-id", b"mine")]
    assert body["body"] == b"x"


def test_an_error_of_ours_is_answered_with_its_row() -> None:
    start, body = answered(raising(BadRequest("no", param="input")))

    assert start["status"] == 400
    assert json.loads(body["body"])["error"]["param"] == "input"
    assert b"x-request-id" in dict(start["headers"])


def test_a_bug_is_answered_with_its_id_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        start, body = answered(raising(RuntimeError("boom")), [(b"x-request-id", b"r7")])

    assert start["status"] == 500
    assert "r7" in json.loads(body["body"])["error"]["message"]
    assert b"boom" not in body["body"]
    assert [record.message for record in caplog.records] == ["request_failed"]


def test_an_answer_that_breaks_in_the_middle_is_broken_off() -> None:
    with pytest.raises(RuntimeError, match="boom"):
        answered(raising(RuntimeError("boom"), START))


def test_a_bug_after_the_answer_harms_nobody() -> None:
    end = {"type": "http.response.body", "body": b"x"}

    assert len(answered(raising(RuntimeError("boom"), START, end))) == 2


def test_nobody_answers_a_client_that_has_gone() -> None:
    assert answered(raising(ClientDisconnected())) == []


def test_a_cancelled_request_stays_cancelled() -> None:
    with pytest.raises(asyncio.CancelledError):
        answered(raising(asyncio.CancelledError()))
