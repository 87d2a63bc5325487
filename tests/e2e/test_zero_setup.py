"""What somebody gets who starts `embedpool serve` with nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from e2e.asking import float32_of, vectors_in
from e2e.pools import Pool, serving

BREAD = "How do I bake bread with sourdough?"
BAKING = "Baking a loaf of bread at home"
TAXES = "The deadline for filing a corporate income tax return"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with serving() as running:
        yield running


def embedded(client: httpx.Client, given: object, **fields: object) -> list[bytes]:
    body = {"model": "wordllama", "input": given, **fields}
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    return vectors_in(answer.json())


def nearness(one: bytes, other: bytes) -> float:
    return float(np.frombuffer(one, "<f4") @ np.frombuffer(other, "<f4"))


@pytest.mark.parametrize("model", ["wordllama", "local", "default", "LOCAL"])
def test_the_first_vector_has_256_dimensions_and_unit_length(
    client: httpx.Client, model: str
) -> None:
    (vector,) = embedded(client, "Hello, world", model=model)

    assert len(vector) == 4 * 256
    assert nearness(vector, vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("dims", [256, 128, 64])
def test_shorter_vectors_have_unit_length_too(client: httpx.Client, dims: int) -> None:
    (vector,) = embedded(client, "Hello, world", dimensions=dims)

    assert len(vector) == 4 * dims
    assert nearness(vector, vector) == pytest.approx(1.0, abs=1e-5)


def test_near_texts_are_nearer_than_far_ones(client: httpx.Client) -> None:
    bread, baking, taxes = embedded(client, [BREAD, BAKING, TAXES])

    assert nearness(bread, baking) > nearness(bread, taxes) + 0.1


def test_a_text_in_a_batch_has_exactly_the_vector_it_has_alone(client: httpx.Client) -> None:
    texts = [BREAD, BAKING, "短い文", "🦙", "a", TAXES * 40]

    together = embedded(client, texts)

    assert together == [embedded(client, text)[0] for text in texts]


@pytest.mark.parametrize("dims", [256, 64])
def test_base64_and_floats_are_the_same_numbers(client: httpx.Client, dims: int) -> None:
    asked = {"given": [BREAD, TAXES], "dimensions": dims}

    as_base64 = embedded(client, **asked, encoding_format="base64")

    assert as_base64 == embedded(client, **asked, encoding_format="float")
    assert as_base64 == embedded(client, **asked, encoding_format=None)


def test_an_answer_has_openais_shape(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"model": "local", "input": ["a", "b"]})

    body = answer.json()
    assert body.keys() == {"object", "data", "model", "usage"}
    assert body["object"] == "list"
    assert [item["object"] for item in body["data"]] == ["embedding", "embedding"]
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert float(answer.headers["x-embedpool-cost-usd"]) == 0


def test_it_says_where_it_serves_what(pool: Pool) -> None:
    said = pool.program.output

    assert pool.url in said
    assert "wordllama" in said
    news = [line for line in said.splitlines() if line.strip() and '"level":"info"' not in line]
    assert len(news) == 1


def test_the_curl_it_prints_works_when_pasted(pool: Pool) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    curl = pool.program.output[pool.program.output.index("curl ") :].splitlines()[0]

    pasted = subprocess.run(
        ["sh", "-c", f"{curl} --silent --show-error --noproxy '*'"],
        capture_output=True,
        check=True,
        timeout=10,
    )

    (vector,) = vectors_in(json.loads(pasted.stdout))
    assert len(vector) == 4 * 256


def test_the_model_is_listed(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()

    assert listed["object"] == "list"
    assert "wordllama" in [model["id"] for model in listed["data"]]


@pytest.mark.parametrize("name", ["wordllama", "local"])
def test_one_model_can_be_looked_at(client: httpx.Client, name: str) -> None:
    model = client.get(f"/v1/models/{name}").json()

    assert (model["id"], model["object"], model["dimensions"]) == ("wordllama", "model", 256)


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/health/liveliness",
        "/health/liveness",
        "/readyz",
        "/health/readiness",
        "/readyz?deep=1",
    ],
)
def test_it_says_that_it_is_well(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.json()["status"] in {"alive", "ready"}


def test_the_openapi_document_describes_the_embeddings_endpoint(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()

    operation = document["paths"]["/v1/embeddings"]["post"]
    assert {"200", "400", "401", "404", "413", "415", "502", "503", "504"} <= set(
        operation["responses"]
    )
    assert operation["requestBody"]["content"]["application/json"]["schema"]


def test_processes_are_named_and_stay_in_its_group(pool: Pool) -> None:
    everybody = [pool.program.pid, pool.workers()[0].pid, pool.apis()[0].pid]

    assert {os.getpgid(pid) for pid in everybody} == {pool.program.pid}
    assert len(set(everybody)) == 3


def test_only_its_owner_can_open_the_store(pool: Pool) -> None:
    socket = pool.data_directory / "valkey.sock"

    assert socket.stat().st_mode & 0o077 == 0
    assert pool.data_directory.stat().st_mode & 0o077 == 0


def test_floats_are_as_long_as_float32_needs(client: httpx.Client) -> None:
    body = {"model": "wordllama", "input": "Hello"}

    text = client.post("/v1/embeddings", json=body).text

    numbers = json.loads(text)["data"][0]["embedding"]
    assert float32_of(numbers) == embedded(client, "Hello", encoding_format="base64")[0]
    assert len(text) < 256 * 16 + 200
