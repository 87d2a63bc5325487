from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import (
    CapExceeded,
    KeyForbidden,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_worker.providers.failures import (
    failure,
    failure_in_answer,
    is_about_every_input,
)

NOW_UNIX_S = 1_800_000_000.0


def body(message: str = "no", **more: object) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedInput),
        (401, KeyRejected),
        (402, QuotaExhausted),
        (403, KeyForbidden),
        (404, RefusedInput),
        (408, ProviderUnavailable),
        (409, ProviderUnavailable),
        (413, CapExceeded),
        (418, RefusedInput),
        (422, RefusedInput),
        (429, ProviderThrottled),
        (302, ProviderUnavailable),
        (500, ProviderUnavailable),
        (503, ProviderUnavailable),
        (529, ProviderUnavailable),
    ],
)
def test_a_status_becomes_one_of_our_conditions(status: int, kind: type[ProviderError]) -> None:
    assert type(failure(status, {}, body(), now_unix_s=NOW_UNIX_S)) is kind


@pytest.mark.parametrize(
    ("status", "payload", "kind"),
    [
        (429, body(code="insufficient_quota"), QuotaExhausted),
        (429, body("You exceeded your current quota", status="RESOURCE_EXHAUSTED"),
         ProviderThrottled),
        (400, body("Access denied", code="Arrearage"), QuotaExhausted),
        (400, body("API key not valid. Please pass a valid API key."), KeyRejected),
        (400, body("it should not be larger than 10.", param="input"), CapExceeded),
        (422, b'{"detail":[{"loc":["body","input"],"msg":"at most 1024 items"}]}', CapExceeded),
        (413, b'{"error":"`inputs` must have less than 512 tokens. Given: 600"}', RefusedInput),
        (413, b"<html>413 Request Entity Too Large</html>", CapExceeded),
        (400, body("dimensions must be at most 1536", param="dimensions"), RefusedInput),
    ],
    ids=[
        "no money", "Google's word for too fast", "no money, Alibaba", "Google's bad key",
        "a cap", "a cap in FastAPI's words", "one input too long", "a proxy's 413",
        "a limit that is no cap",
    ],
)  # fmt: skip
def test_the_words_decide_where_the_status_does_not(
    status: int, payload: bytes, kind: type[ProviderError]
) -> None:
    assert type(failure(status, {}, payload, now_unix_s=NOW_UNIX_S)) is kind


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (body("openai"), "openai"),
        (b'{"message":"cohere"}', "cohere"),
        (b'{"error":"tei","error_type":"validation"}', "tei"),
        (b'{"detail":"voyage"}', "voyage"),
        (b'{"object":"error","message":"vllm","code":400}', "vllm"),
        (b'[{"error":{"code":400,"message":"gemini","status":"INVALID_ARGUMENT"}}]', "gemini"),
        (b'{"detail":[{"loc":["body"],"msg":"fastapi","input":"private"}]}', "fastapi"),
        (b"plain text", "plain text"),
        (b"<!DOCTYPE html><html>", "HTTP 400 without a message"),
        (b"", "HTTP 400 without a message"),
    ],
)
def test_the_message_is_found_in_every_shape(payload: bytes, message: str) -> None:
    assert failure(400, {}, payload, now_unix_s=NOW_UNIX_S).message == message


def test_code_param_and_wait_are_kept() -> None:
    error = failure(
        429,
        {"retry-after": "7"},
        body("slow down", code="rate_limit_exceeded", param="input"),
        now_unix_s=NOW_UNIX_S,
    )

    assert (error.code, error.param, error.retry_after_s) == ("rate_limit_exceeded", "input", 7.0)


def test_the_wait_is_read_from_googles_details_too() -> None:
    error = failure(429, {}, body(details=[{"retryDelay": "34s"}]), now_unix_s=NOW_UNIX_S)

    assert error.retry_after_s == 34.0


def test_a_wrong_model_is_nobodys_input() -> None:
    error = failure(404, {}, body("The model does not exist"), now_unix_s=NOW_UNIX_S)

    assert (error.param, error.code) == ("model", "model_not_found")
    assert is_about_every_input(error)


@pytest.mark.parametrize("param", [None, "input", "input[3]", "texts"])
def test_a_refused_input_is_worth_bisecting(param: str | None) -> None:
    assert not is_about_every_input(RefusedInput("no", param=param))


def test_the_key_of_the_call_is_not_in_the_message() -> None:
    error = failure(401, {}, body("bad: tiny"), now_unix_s=NOW_UNIX_S, secrets=["tiny"])

    assert "tiny" not in error.message


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (body(code=429), ProviderThrottled),
        (body(type="rate_limit_error"), ProviderThrottled),
        (body(type="insufficient_quota"), QuotaExhausted),
        (body(type="invalid_request_error"), RefusedInput),
        (body("oops"), WrongAnswer),
        (b"{}", WrongAnswer),
    ],
)
def test_an_error_inside_a_200_is_named_too(payload: bytes, kind: type[ProviderError]) -> None:
    assert type(failure_in_answer(payload, now_unix_s=NOW_UNIX_S)) is kind


@given(st.integers(100, 999), st.binary(max_size=200))
def test_any_answer_is_some_provider_error(status: int, payload: bytes) -> None:
    error = failure(status, {}, payload, now_unix_s=NOW_UNIX_S)

    assert isinstance(error, ProviderError)
    assert 0 < len(error.message) <= 500
