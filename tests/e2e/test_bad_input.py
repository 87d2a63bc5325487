"""Requests nobody can answer: each has its row, in JSON, whatever else is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from e2e.asking import error_of, seen, vectors_in

REFUSED = "invalid_request_error"
MIB = 1024 * 1024
SHAPE = "Invalid input format: "


def given(value: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "wordllama", "input": value, **fields}


@pytest.mark.parametrize(
    ("value", "param"),
    [
        pytest.param("", "input", id="an empty string"),
        pytest.param([], "input", id="an empty array"),
        pytest.param([""], "input[0]", id="an empty string in an array"),
        pytest.param(["a", ""], "input[1]", id="an empty string behind a good one"),
        pytest.param([[]], "input[0]", id="an empty array of ids"),
        pytest.param([[1], []], "input[1]", id="an empty array of ids behind a good one"),
        pytest.param(["a", 1], "input[1]", id="a number behind a string"),
        pytest.param([1, "a"], "input[1]", id="a string behind an id"),
        pytest.param([[1], "a"], "input[1]", id="a string behind ids"),
        pytest.param([[1, 2.5]], "input[0][1]", id="a fraction for an id"),
        pytest.param([[-1]], "input[0][0]", id="a negative id"),
        pytest.param([True], "input[0]", id="a boolean"),
        pytest.param([None], "input[0]", id="null in an array"),
        pytest.param(None, "input", id="null"),
        pytest.param(7, "input", id="a number"),
        pytest.param({"text": "a"}, "input", id="an object"),
        pytest.param([{"text": "a"}], "input[0]", id="an object in an array"),
    ],
)
def test_a_misshapen_input_is_refused_by_its_place(
    client: httpx.Client, value: Any, param: str
) -> None:
    answer = client.post("/v1/embeddings", json=given(value))

    assert seen(answer) == (400, REFUSED, param, None)
    assert error_of(answer)["message"].startswith(SHAPE)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({"input": "a"}, "model", id="no model"),
        pytest.param({"input": "a", "model": 7}, "model", id="a number for a model"),
        pytest.param({"input": "a", "model": "http://evil"}, "model", id="an address for a model"),
        pytest.param({"model": "wordllama"}, "input", id="no input"),
        pytest.param(given("a", dimensions=0), "dimensions", id="no dimensions at all"),
        pytest.param(given("a", dimensions=-1), "dimensions", id="negative dimensions"),
        pytest.param(given("a", dimensions="64"), "dimensions", id="dimensions as text"),
        pytest.param(given("a", dimensions=64.0), "dimensions", id="dimensions as a fraction"),
        pytest.param(given("a", dimensions=100), "dimensions", id="dimensions it cannot do"),
        pytest.param(given("a", dimensions=512), "dimensions", id="more dimensions than it has"),
        pytest.param(given("a", model="ada", dimensions=64), "dimensions", id="a fixed size"),
        pytest.param(given("a", encoding_format="hex"), "encoding_format", id="hex"),
        pytest.param(given("a", encoding_format=1), "encoding_format", id="a number for a format"),
        pytest.param(given("a", user=7), "user", id="a number for a user"),
        pytest.param(given("a", metadata="x"), "metadata", id="text for metadata"),
        pytest.param(given("a", extra_body=[]), "extra_body", id="an array for extra_body"),
        pytest.param(given("a", temperature=1), "temperature", id="a field nobody knows"),
        pytest.param(
            given("a", model="small", api_base="http://evil"), "api_base", id="an address"
        ),
    ],
)
def test_a_bad_field_is_refused_by_its_name(
    client: httpx.Client, body: dict[str, Any], param: str
) -> None:
    answer = client.post("/v1/embeddings", json=body)

    assert seen(answer) == (400, REFUSED, param, None)


def test_dimensions_a_model_cannot_do_are_explained(client: httpx.Client) -> None:
    message = error_of(client.post("/v1/embeddings", json=given("a", dimensions=100)))["message"]

    assert "wordllama" in message
    assert "256, 128, 64" in message


def test_2049_items_are_one_too_many(client: httpx.Client) -> None:
    most = client.post("/v1/embeddings", json=given(["a"] * 2_048))
    too_many = client.post("/v1/embeddings", json=given(["a"] * 2_049))

    assert len(vectors_in(most.json())) == 2_048
    assert seen(too_many) == (400, REFUSED, "input", "array_above_max_length")


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json=given("a", model="no-such-model"))

    assert seen(answer) == (404, REFUSED, "model", "model_not_found")
    assert "no-such-model" in error_of(answer)["message"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": "wordllama", "input": "a"', b"\xff\xfe{}"])
def test_what_claims_to_be_json_and_is_not_is_a_bad_request(
    client: httpx.Client, body: bytes
) -> None:
    as_json = {"content-type": "application/json"}

    answer = client.post("/v1/embeddings", content=body, headers=as_json)

    assert seen(answer) == (400, REFUSED, None, None)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"null", b"7"])
def test_json_that_is_no_object_is_a_bad_request(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/embeddings", content=body)

    assert seen(answer) == (400, REFUSED, None, None)


def test_what_neither_is_nor_claims_to_be_json_is_a_wrong_type(client: httpx.Client) -> None:
    plain = {"content-type": "text/plain"}

    answer = client.post("/v1/embeddings", content=b"embed this", headers=plain)

    assert seen(answer) == (415, REFUSED, None, None)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_json_under_another_name_is_read_all_the_same(
    client: httpx.Client, content_type: str
) -> None:
    content = json.dumps(given("a"))

    answer = client.post("/v1/embeddings", content=content, headers={"content-type": content_type})

    assert len(vectors_in(answer.json())) == 1


def test_a_compressed_body_is_refused(client: httpx.Client) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    content = gzip.compress(json.dumps(given("a")).encode())

    answer = client.post("/v1/embeddings", content=content, headers=headers)

    assert seen(answer) == (415, REFUSED, None, None)


def in_chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), MIB):
        yield content[start : start + MIB]


@pytest.mark.parametrize("send_as", [bytes, in_chunks], ids=["announced", "in chunks"])
def test_17_mib_are_too_many(client: httpx.Client, send_as: Any) -> None:
    content = json.dumps(given("a" * 17 * MIB)).encode()

    answer = client.post("/v1/embeddings", content=send_as(content))

    assert seen(answer) == (413, REFUSED, None, None)


def test_a_body_just_below_16_mib_is_read(client: httpx.Client) -> None:
    content = json.dumps(given("a")).encode().ljust(16 * MIB)

    assert client.post("/v1/embeddings", content=content).status_code == 200


def test_a_text_longer_than_the_model_takes_is_refused_in_openais_words(
    client: httpx.Client,
) -> None:
    answer = client.post("/v1/embeddings", json=given("word " * 9_000, model="small"))

    assert seen(answer) == (400, REFUSED, "input[0]", None)
    assert error_of(answer)["message"].startswith("This model's maximum context length is 819")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_wrong_method_is_not_allowed(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/v1/embeddings")

    assert seen(answer) == (405, REFUSED, None, None)
    assert answer.headers["allow"] == "POST"


def test_a_wrong_method_elsewhere_is_not_allowed_either(client: httpx.Client) -> None:
    assert seen(client.post("/v1/models")) == (405, REFUSED, None, None)


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/chat/completions", "/v1/embeddings/", "/docs", "/favicon.ico"]
)
def test_an_unknown_path_is_not_found(client: httpx.Client, path: str) -> None:
    assert seen(client.post(path, json=given("a"))) == (404, REFUSED, None, None)


def test_a_sane_request_id_is_echoed_on_errors_too(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json=given(""), headers={"x-request-id": "abc-1"})

    assert answer.headers["x-request-id"] == "abc-1"
