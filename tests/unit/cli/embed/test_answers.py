from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from embedpool_cli.embed.answers import Answered, Refusal, Verdict, answered, refused


def body(*vectors: object, **changes: object) -> bytes:
    data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    return json.dumps({"data": data, "usage": {"total_tokens": 7}} | changes).encode()


def b64(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


def test_vectors_are_read_from_base64_and_from_numbers() -> None:
    expected = [memoryview(np.array(one, "<f4").tobytes()) for one in ([1, 2], [0.5, 4])]

    for answer in (body(b64(1, 2), b64(0.5, 4)), body([1, 2], [0.5, 4])):
        assert answered(answer, 2) == Answered(expected, 2, 7)


@pytest.mark.parametrize(
    "answer",
    [
        body(b64(1, 2), b64(0.5, 4)),
        body(b64(1, 2), b64(0.5, 4)).replace(b" ", b""),
        body(b64(1, 2), b64(0.5, 4)).replace(b" ", b"").replace(b"Pw", rb"\u0050w"),
        body(b64(1, 2), b64(0.5, 4), note='"embedding":"').replace(b" ", b""),
        body(b64(1, 2), b64(0.5, 4), note={"embedding": "x"}).replace(b" ", b""),
    ],
    ids=["spaced", "tight", "escaped", "quoted", "nested"],
)
def test_however_it_is_spelled_an_answer_is_the_same(answer: bytes) -> None:
    expected = [memoryview(np.array(one, "<f4").tobytes()) for one in ([1, 2], [0.5, 4])]

    assert answered(answer, 2) == Answered(expected, 2, 7)


@pytest.mark.parametrize("is_tight", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        body(b64(1, 2)),
        body(b64(1, 2), b64(1)),
        body(b64(1, 2), b64(1, float("nan"))),
        body(b64(1, 2), "no base64"),
        body(b64(1, 2), None),
        body("", ""),
        body([], []),
        body(data=[{"index": 1, "embedding": b64(1)}, {"index": 0, "embedding": b64(2)}]),
        body(b64(1, 2), [1, "x"]),
    ],
)
def test_anything_else_is_doubted(answer: bytes, is_tight: bool) -> None:
    outcome = answered(answer.replace(b" ", b"") if is_tight else answer, 2)

    assert isinstance(outcome, Refusal)
    assert outcome.verdict is Verdict.DOUBT


def refusal(status: int, headers: dict[str, str] | None = None, **error: object) -> Refusal:
    return refused(status, headers or {}, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("status", "error", "verdict"),
    [
        (400, {"message": "[openai] no", "param": None}, Verdict.SPLIT),
        (400, {"param": "input[3]"}, Verdict.SPLIT),
        (400, {"param": "dimensions"}, Verdict.STOP),
        (400, {"code": "request_exceeds_limit"}, Verdict.SPLIT),
        (413, {}, Verdict.SPLIT),
        (415, {}, Verdict.STOP),
        (401, {}, Verdict.STOP),
        (403, {}, Verdict.STOP),
        (404, {}, Verdict.STOP),
        (307, {}, Verdict.STOP),
        (429, {}, Verdict.WAIT),
        (503, {"code": "no_keys"}, Verdict.WAIT),
        (503, {"code": "overloaded"}, Verdict.SHRINK),
        (504, {}, Verdict.SHRINK),
        (500, {}, Verdict.DOUBT),
        (502, {}, Verdict.DOUBT),
    ],
)
def test_each_status_has_one_meaning(
    status: int, error: dict[str, object], verdict: Verdict
) -> None:
    assert refused(status, {}, json.dumps({"error": error}).encode()).verdict is verdict


def test_a_budget_used_up_ends_the_run() -> None:
    assert refusal(429, {"x-should-retry": "false"}).verdict is Verdict.STOP


def test_the_input_a_refusal_names_is_suspected() -> None:
    assert refusal(400, param="input[12]").suspect == 12
    assert refusal(400, message="it quotes input[12]").suspect is None


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "3", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_pools_word_on_waiting_is_heard(
    headers: dict[str, str], expected_s: float | None
) -> None:
    assert refusal(429, headers).retry_after_s == expected_s


def test_a_refusal_that_is_no_json_still_says_something() -> None:
    assert refused(502, {}, b"<html>bad gateway").reason == "the pool answered with status 502"
