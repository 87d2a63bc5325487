"""Nothing a caller adds can move a call, pay for it otherwise, or change what numbers mean."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.embedding import params
from embedpool_shared.errors import BadRequest

REFUSED = [
    "model",
    "input",
    "encoding_format",
    "dimensions",
    "api_base",
    "apiBase",
    "API-BASE",
    "base_url",
    "api_key",
    "api_version",
    "headers",
    "extra_headers",
    "timeout",
    "organization",
    "aws_region_name",
    "awsSecretAccessKey",
    "vertex_credentials",
    "azure_ad_token",
    "litellm_params",
    "output_dtype",
    "embedding_types",
    "embedding_type",
    "output_dimension",
    "outputDimensionality",
    "late_chunking",
    "stream",
]


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_are_not_the_callers_are_refused_at_any_depth(name: str) -> None:
    for extra_body in (
        {name: 1},
        {"a": {name: 1}},
        {"a": [{"b": {name: None}}]},
    ):
        with pytest.raises(BadRequest) as caught:
            params.merged({}, extra_body)
        assert caught.value.param is not None
        assert caught.value.param.endswith(name)


@pytest.mark.parametrize("name", ["api_base", "aws_region_name", "output_dtype", "late_chunking"])
def test_they_are_refused_as_top_level_fields_too(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        params.merged({name: "x"}, {})

    assert caught.value.param == name


@pytest.mark.parametrize(
    "extra_body",
    [
        {"a": "os.environ/SECRET"},
        {"a": [{"b": "os.environ/SECRET"}]},
        {"os.environ/SECRET": 1},
        {"a": " os.environ/SECRET"},
    ],
)
def test_nobody_looks_into_our_environment(extra_body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="is not read here"):
        params.merged({}, extra_body)
    with pytest.raises(BadRequest, match="is not read here"):
        params.merged({"field": extra_body}, {})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_bounded_and_does_not_exhaust_the_stack() -> None:
    assert params.merged({}, {"a": nested(15)})
    with pytest.raises(BadRequest, match="deeper than 16"):
        params.merged({}, {"a": nested(16)})
    with pytest.raises(BadRequest, match="deeper than 16"):
        params.merged({"a": nested(100_000)}, {})


@pytest.mark.parametrize(
    "extra_body",
    [{"a": "x" * 4_096}, {"a": "é" * 2_050}, {"a": [1] * 1_000_000}, {"a": [[]] * 3_000}],
    ids=["long", "long in bytes", "wide", "wide and empty"],
)
def test_more_than_4_kb_are_refused(extra_body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="4096"):
        params.merged({}, extra_body)
    with pytest.raises(BadRequest, match="4096"):
        params.merged(extra_body, {})


def test_4_kb_are_taken() -> None:
    assert params.merged({}, {"a": "x" * (4_096 - len('{"a":""}'))})


def test_fields_and_extra_body_become_one_object() -> None:
    both = params.merged({"input_type": "query", "x": 1, "absent": None}, {"x": 2, "null": None})

    assert both == {"input_type": "query", "x": 2, "null": None}


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("abc", max_size=5)
objects = st.dictionaries(
    st.text("xyz", max_size=3),
    scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text("xyz", max_size=2), scalars),
    max_size=4,
)


@given(objects, st.randoms())
def test_equal_parameters_have_one_spelling(wanted: dict[str, Any], random: Any) -> None:
    shuffled = list(wanted.items())
    random.shuffle(shuffled)

    assert params.canonical(dict(shuffled)) == params.canonical(wanted)
    assert orjson.loads(params.canonical(wanted) or "{}") == wanted


def test_no_parameters_are_spelt_as_nothing() -> None:
    assert params.canonical({}) == ""
