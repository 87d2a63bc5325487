"""Every shape a caller may send is read, and every other is refused naming the place."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.embedding.request import EmbeddingRequest, parse
from embedpool_shared.errors import BadRequest, CallerError, NotJson


def read(fields: Any, **options: Any) -> EmbeddingRequest:
    return parse(orjson.dumps(fields), content_type="application/json", **options)


def refused(fields: Any, **options: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(fields, **options)
    return caught.value


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2, 0], [[1, 2, 0]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([" "], [" "]),
        (["x"] * 2048, ["x"] * 2048),
    ],
    ids=["text", "texts", "ids", "arrays of ids", "a blank", "2048 texts"],
)
def test_every_shape_of_input_is_a_list_of_items(given_input: Any, expected: Any) -> None:
    assert read({"model": "m", "input": given_input}).inputs == expected


@pytest.mark.parametrize(
    ("given_input", "param"),
    [
        (None, "input"),
        ("", "input"),
        ([], "input"),
        ([""], "input[0]"),
        (["a", "b", "c", ""], "input[3]"),
        ([[]], "input[0]"),
        ([[1], []], "input[1]"),
        (["a", 1], "input[1]"),
        ([1, "a"], "input[1]"),
        ([1, True], "input[1]"),
        ([True], "input[0]"),
        ([1, 2.0], "input[1]"),
        ([1.0], "input[0]"),
        ([-1], "input[0]"),
        ([[1], [2, -3]], "input[1][1]"),
        ([[1], [2, "x"]], "input[1][1]"),
        ([[1], "a"], "input[1]"),
        ([["a"]], "input[0][0]"),
        ([[[1]]], "input[0][0]"),
        ([None], "input[0]"),
        ([{}], "input[0]"),
        ({}, "input"),
        (7, "input"),
        (7.5, "input"),
        (False, "input"),
        ([2**64], "input[0]"),
    ],
    ids=str,
)
def test_a_misshapen_input_is_refused_naming_the_place(given_input: Any, param: str) -> None:
    body = b'{"model":"m","input":[18446744073709551616]}' if given_input == [2**64] else None

    with pytest.raises(BadRequest) as caught:
        parse(body or orjson.dumps({"model": "m", "input": given_input}))

    assert caught.value.param == param
    assert caught.value.message.startswith("Invalid input format: ")


def test_more_than_2048_items_are_refused_with_openais_code() -> None:
    error = refused({"model": "m", "input": ["x"] * 2049})

    assert (error.param, error.code) == ("input", "array_above_max_length")
    assert "2049" in error.message


def test_an_absent_input_is_refused() -> None:
    assert refused({"model": "m"}).param == "input"


@pytest.mark.parametrize("fields", [[], "x", 1, None, True])
def test_a_body_that_is_no_object_is_refused(fields: Any) -> None:
    assert "object" in refused(fields).message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model":"m","input":"a"',
        b'{"model":"m","input":NaN}',
        b'{"model":"m","input":"\\ud800"}',
        b'{"model":"m","input":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"model":"m","input":' + b"[" * 100_000,
        b'{"model":"m","input":"a","x":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    ],
    ids=[
        "empty",
        "brace",
        "cut",
        "NaN",
        "lone surrogate",
        "not UTF-8",
        "byte order mark",
        "deep lists",
        "deep objects",
    ],
)
def test_bad_json_is_a_400_when_it_claims_to_be_json_and_a_415_when_not(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        parse(body, content_type="application/json; charset=utf-8")
    for content_type in (None, "text/plain", "application/x-www-form-urlencoded"):
        with pytest.raises(NotJson):
            parse(body, content_type=content_type)


def test_json_is_read_whatever_the_content_type_says() -> None:
    assert parse(b'{"model":"m","input":"a"}', content_type="text/plain").inputs == ["a"]


@pytest.mark.parametrize(
    ("in_path", "in_body", "default", "expected"),
    [
        (None, "body", "default", "body"),
        ("path", "body", "default", "path"),
        ("path", None, None, "path"),
        ("path/with/slashes", 7, None, "path/with/slashes"),
        (None, None, "default", "default"),
        (None, "", "default", "default"),
    ],
)
def test_the_path_names_the_model_before_the_body_before_the_default(
    in_path: str | None, in_body: Any, default: str | None, expected: str
) -> None:
    fields = {"model": in_body, "input": "a"}

    assert read(fields, path_model=in_path, default_model=default).model == expected


@pytest.mark.parametrize("model", [None, "", 7, [], {}, "m\n", "m\x00", "m" * 513])
def test_a_model_that_is_no_name_is_refused(model: Any) -> None:
    assert refused({"model": model, "input": "a"}).param == "model"


@pytest.mark.parametrize(
    ("encoding_format", "is_base64"), [(None, False), ("float", False), ("base64", True)]
)
def test_both_encodings_are_known(encoding_format: str | None, is_base64: bool) -> None:
    fields = {"model": "m", "input": "a", "encoding_format": encoding_format}

    assert read(fields).is_base64 is is_base64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("encoding_format", "hex"),
        ("encoding_format", 1),
        ("encoding_format", ["base64"]),
        ("dimensions", 0),
        ("dimensions", -1),
        ("dimensions", 1.0),
        ("dimensions", "256"),
        ("dimensions", True),
        ("user", 7),
        ("user", "os.environ/SECRET"),
        ("metadata", []),
        ("metadata", {"a": "os.environ/SECRET"}),
        ("metadata", {"a": "x" * 5_000}),
        ("extra_body", []),
        ("tags", "a"),
        ("tags", [1]),
        ("tags", ["a"] * 21),
        ("tags", ["x" * 5_000]),
        ("cache", True),
        ("timeout", "soon"),
        ("timeout", 0),
        ("timeout", True),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(field: str, value: Any) -> None:
    error = refused({"model": "m", "input": "a", field: value})

    assert error.param is not None
    assert error.param.startswith(field)


def test_null_means_absent_for_every_optional_field() -> None:
    names = "encoding_format dimensions user metadata extra_body tags cache timeout input_type foo"
    fields = {"model": "m", "input": "a"} | dict.fromkeys(names.split())

    assert read(fields) == read({"model": "m", "input": "a"})


def test_every_field_arrives() -> None:
    request = read(
        {
            "model": "m",
            "input": "a",
            "dimensions": 5,
            "user": "u",
            "metadata": {"k": [1]},
            "tags": ["t"],
            "cache": {"no-cache": True},
            "timeout": 3,
            "input_type": "query",
            "extra_body": {"custom": 1},
        }
    )

    assert request == EmbeddingRequest(
        model="m",
        inputs=["a"],
        dimensions=5,
        user="u",
        metadata={"k": [1]},
        tags=("t",),
        no_cache=True,
        timeout_s=3.0,
        params={"input_type": "query", "custom": 1},
    )


def test_litellms_own_fields_are_consumed_and_not_forwarded() -> None:
    fields = {"num_retries": 3, "fallbacks": ["x"], "mock_response": "y", "litellm_trace_id": "z"}

    assert read({"model": "m", "input": "a"} | fields).params == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
own_fields = st.sampled_from(
    ["model", "input", "encoding_format", "dimensions", "user", "metadata", "extra_body", "tags"]
)


@given(st.dictionaries(own_fields | st.text(), json_values, max_size=8) | json_values)
def test_arbitrary_json_is_read_or_refused_with_an_error_of_ours(fields: Any) -> None:
    try:
        body = orjson.dumps(fields)
    except TypeError:
        return  # lone surrogates, which have bytes of their own above
    try:
        request = parse(body, content_type="application/json", default_model="m")
    except CallerError as error:
        orjson.dumps([error.message, error.param, error.code])
    else:
        assert 1 <= len(request.inputs) <= 2048
        assert len({type(item) for item in request.inputs}) == 1


@given(st.binary(max_size=200), st.none() | st.text(max_size=20))
def test_arbitrary_bytes_are_read_or_refused(body: bytes, content_type: str | None) -> None:
    with pytest.raises(CallerError):
        parse(body, content_type=content_type)
