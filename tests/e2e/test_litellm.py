"""LiteLLM serves whatever nobody else does, and costs nothing until then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from e2e.asking import asked, error_of, right, seen, vectors_in
from e2e.models import entry, openai_entry
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour

COHERE = "embed-english-v3.0"
COHERE_DIMS = 1_024
ONLY_LITELLM_LOADS = "/tiktoken/"
"""A compiled library shows in a process' memory map; this one we never load ourselves."""


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=COHERE_DIMS) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    cohere = entry("cohere", f"cohere/{COHERE}", f"{fake.url}/v2/embed", "co-key")
    local = {"model_name": "wordllama", "litellm_params": {"model": "wordllama/wordllama"}}
    wire = openai_entry("wire", fake, output_dimensions=COHERE_DIMS)
    with serving(config={"model_list": [local, wire, cohere]}) as running:
        yield running


def has_litellm(pool: Pool) -> bool:
    """Tell whether the worker has loaded LiteLLM."""
    (worker,) = pool.workers()
    return ONLY_LITELLM_LOADS in Path(f"/proc/{worker.pid}/maps").read_text()


def test_only_the_first_call_that_needs_litellm_loads_it(
    pool: Pool, client: httpx.Client, fake: FakeProvider
) -> None:
    def vectors(model: str) -> list[bytes]:
        answer = client.post("/v1/embeddings", json=asked(model, ["one", "two"]))
        assert answer.status_code == 200, answer.text
        return vectors_in(answer.json())

    assert len(vectors("wordllama")) == 2
    assert vectors("wire") == right(["one", "two"], dims=COHERE_DIMS)
    assert not has_litellm(pool)

    assert vectors("cohere") == right(["one", "two"], dims=COHERE_DIMS, upstream=COHERE)
    assert has_litellm(pool)
    assert fake.calls[-1].key == "co-key"


def test_a_callers_input_type_reaches_the_provider(
    client: httpx.Client, fake: FakeProvider
) -> None:
    body = asked("cohere", "which one?", input_type="search_query")

    assert client.post("/v1/embeddings", json=body).status_code == 200
    assert fake.calls[-1].fields["input_type"] == "search_query"


def test_a_refusal_behind_litellm_reaches_its_caller(
    client: httpx.Client, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(containing="poison", status=400, message="not this text"))

    answer = client.post("/v1/embeddings", json=asked("cohere", "poison"))

    fake.behave()
    assert seen(answer)[:2] == (400, "invalid_request_error")
    message = error_of(answer)["message"]
    assert message.startswith("[cohere] ")
    assert "not this text" in message
    assert "litellm" not in message.lower()


def test_a_parameter_the_provider_does_not_know_is_named(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json=asked("cohere", "x", temperature=1))

    assert seen(answer) == (400, "invalid_request_error", "temperature", None)
