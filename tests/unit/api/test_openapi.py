"""The OpenAPI document is whole, and what it says of bodies is what the code accepts."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import orjson
import pytest

from embedpool_api.errors import error_body
from embedpool_api.openapi import ALTERNATES
from embedpool_api.paths import hot_path
from embedpool_api.schemas import EXAMPLES
from embedpool_shared.embedding.answer import embedding_body
from embedpool_shared.embedding.request import parse
from embedpool_shared.errors import BadRequest, EmbedPoolError
from embedpool_shared.statuses import STATUS_OF
from unit.api.test_app import app, ask


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    response = ask("GET", "/openapi.json", of=app())
    assert response.status_code == 200
    content: dict[str, Any] = response.json()
    return content


def validate(document: dict[str, Any], name: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


def test_every_path_is_there(document: dict[str, Any]) -> None:
    assert {"/v1/embeddings", *ALTERNATES, "/v1/models", "/healthz", "/readyz"} <= document[
        "paths"
    ].keys()


def test_every_alternate_leads_to_the_endpoint() -> None:
    assert all(hot_path(path) for path in ALTERNATES)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document))

    assert names
    assert set(names) <= document["components"]["schemas"].keys()


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]

    assert len(ids) == len(set(ids)) >= 9


def test_every_status_of_the_table_is_described(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/embeddings"]["post"]["responses"]

    assert {str(row.status) for row in STATUS_OF.values()} | {"200"} == responses.keys()


def test_fastapis_own_error_is_nowhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)

    assert "HTTPValidationError" not in text
    assert '"422"' not in text


def test_every_schema_is_one(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_valid_and_read(document: dict[str, Any], name: str) -> None:
    validate(document, "EmbeddingRequest", EXAMPLES[name])
    assert parse(orjson.dumps(EXAMPLES[name])).model == EXAMPLES[name]["model"]


@pytest.mark.parametrize(
    "fields",
    [
        {"input": []},
        {"input": ""},
        {"input": [""]},
        {"input": [[]]},
        {"input": ["a", 1]},
        {"input": [-1]},
        {"input": ["x"] * 2049},
        {"input": "a", "dimensions": 0},
        {"input": "a", "encoding_format": "hex"},
        {"input": "a", "metadata": 1},
        {"model": 1, "input": "a"},
        {},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_what_the_schema_refuses_the_code_refuses(
    document: dict[str, Any], fields: dict[str, Any]
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(document, "EmbeddingRequest", fields)
    with pytest.raises(BadRequest):
        parse(orjson.dumps({"model": "m"} | fields))


@pytest.mark.parametrize("is_base64", [False, True])
def test_answers_are_valid(document: dict[str, Any], is_base64: bool) -> None:
    body = embedding_body([(bytes(8), 1)], is_base64=is_base64, model="m", prompt_tokens=3)

    validate(document, "EmbeddingResponse", json.loads(body))


@pytest.mark.parametrize("error", STATUS_OF)
def test_errors_are_valid(document: dict[str, Any], error: type[EmbedPoolError]) -> None:
    validate(document, "Error", json.loads(error_body(error("x"))[2]))


def test_asking_twice_gives_the_same_document() -> None:
    once = app()

    first, second = (ask("GET", "/openapi.json", of=once) for _ in range(2))

    assert first.content == second.content
