"""One table, closed: every error of ours has a status and OpenAI's envelope."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from embedpool_api.errors import error_body
from embedpool_shared import errors
from embedpool_shared.statuses import STATUS_OF, row_of


def leaves(cls: type[errors.EmbedPoolError]) -> Iterator[type[errors.EmbedPoolError]]:
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from leaves(child)


def written(error: Exception, **options: str) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    status, headers, body = error_body(error, **options)
    envelope = json.loads(body)
    assert envelope.keys() == {"error"}
    assert envelope["error"].keys() == {"message", "type", "param", "code"}
    assert dict(headers)[b"content-type"] == b"application/json"
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
    return status, dict(headers), envelope["error"]


def test_every_error_that_can_reach_a_caller_has_a_row_of_its_own() -> None:
    groups = {errors.CallerError, errors.PoolError}
    inner = {errors.ConfigInvalid, errors.ProviderError, *leaves(errors.ProviderError)}

    assert set(leaves(errors.EmbedPoolError)) - groups - inner == STATUS_OF.keys()


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (errors.BadRequest("x"), 400, "invalid_request_error", None),
        (errors.InputRefused("[openai] x", code="c"), 400, "invalid_request_error", "c"),
        (errors.InvalidApiKey("x"), 401, "invalid_request_error", "invalid_api_key"),
        (errors.ModelNotAllowed("x"), 403, "invalid_request_error", "model_not_allowed"),
        (errors.ModelNotFound("x"), 404, "invalid_request_error", "model_not_found"),
        (errors.PathNotFound("x"), 404, "invalid_request_error", None),
        (errors.MethodNotAllowed("x"), 405, "invalid_request_error", None),
        (errors.BodyTooLarge("x"), 413, "invalid_request_error", None),
        (errors.NotJson("x"), 415, "invalid_request_error", None),
        (errors.Overloaded("x"), 503, "overloaded_error", "overloaded"),
        (errors.QueueUnavailable("x"), 503, "service_unavailable", "queue_unavailable"),
        (errors.NoKeys("x"), 503, "no_keys", "no_keys"),
        (errors.DeadlineExceeded("x"), 504, "timeout_error", "timeout"),
        (errors.ProviderFailed("x"), 502, "upstream_error", None),
        (errors.InternalError("x"), 500, "server_error", None),
        (ValueError("x"), 500, "server_error", None),
        (errors.KeyRejected("x"), 500, "server_error", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_the_table_is_the_contracts(
    error: Exception, status: int, type_: str, code: str | None
) -> None:
    found, _, envelope = written(error)

    assert (found, envelope["type"], envelope["code"]) == (status, type_, code)


def test_an_error_of_a_later_kind_takes_its_nearest_ancestors_row() -> None:
    class InputTooOdd(errors.InputRefused): ...

    assert row_of(InputTooOdd("x")) is STATUS_OF[errors.InputRefused]


def test_message_param_and_code_arrive() -> None:
    error = errors.BadRequest("no", param="input[3]", code="array_above_max_length")

    assert written(error)[2] == {
        "message": "no",
        "type": "invalid_request_error",
        "param": "input[3]",
        "code": "array_above_max_length",
    }


def test_too_many_tokens_have_openais_type() -> None:
    envelope = written(errors.BadRequest("x", code="max_tokens_per_request"))[2]

    assert envelope["type"] == "max_tokens_per_request"


@pytest.mark.parametrize("error", [RuntimeError("secret sk-abc"), errors.InternalError("secret")])
def test_a_bug_says_its_request_and_nothing_else(error: Exception) -> None:
    envelope = written(error, request_id="req_7")[2]

    assert "req_7" in envelope["message"]
    assert "secret" not in envelope["message"]


@pytest.mark.parametrize(
    ("error", "seconds", "milliseconds"),
    [
        (errors.QueueUnavailable("x"), b"1", b"1000"),
        (errors.QueueUnavailable("x", retry_after_s=2.5), b"3", b"2500"),
        (errors.Overloaded("x"), b"1", b"1000"),
        (errors.Overloaded("x", retry_after_s=900), b"120", b"120000"),
        (errors.NoKeys("x", retry_after_s=900), b"900", b"900000"),
        (errors.NoKeys("x", retry_after_s=0.0), b"1", b"1"),
        (errors.Overloaded("x", retry_after_s=0.0121), b"1", b"13"),
    ],
)
def test_a_wait_is_told_in_whole_seconds_and_in_milliseconds(
    error: Exception, seconds: bytes, milliseconds: bytes
) -> None:
    headers = written(error)[1]

    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (seconds, milliseconds)
    assert b"x-should-retry" not in headers


@pytest.mark.parametrize("error", [errors.NoKeys("none at all"), ValueError("a bug")])
def test_what_would_fail_again_is_not_to_be_tried_again(error: Exception) -> None:
    headers = written(error)[1]

    assert headers[b"x-should-retry"] == b"false"
    assert b"retry-after" not in headers


@pytest.mark.parametrize("error", [errors.BadRequest("x"), errors.DeadlineExceeded("x")])
def test_other_errors_give_no_advice(error: Exception) -> None:
    assert written(error)[1].keys() == {b"content-type", b"content-length"}


def test_a_missing_key_is_asked_for() -> None:
    assert written(errors.InvalidApiKey("x"))[1][b"www-authenticate"] == b"Bearer"
