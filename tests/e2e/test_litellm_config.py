"""A company's LiteLLM configuration serves its embedding models as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx
import pytest

from e2e.asking import asked, right, seen, vectors_in
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.processes import ROOT

pytestmark = pytest.mark.long

MASTER: Final = "sk-a-long-and-random-master-key"
FILE: Final = ROOT / "tests" / "support" / "litellm_configs" / "company.yaml"
SMALL: Final = "text-embedding-3-small"
UPSTREAMS: Final = (SMALL, "embeddings-eu")
"""What its two deployments call the model, from which the fake makes different vectors."""
NAMES: Final = (SMALL, "Embeddings", "EMBEDDINGS", "hidden-one", f"{SMALL}@openai")


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread() as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    environ = {
        "LITELLM_MASTER_KEY": MASTER,
        "OPENAI_API_KEY": "sk-of-the-file",
        "OPENAI_API_BASE": fake.api_base,
        "AZURE_EU_KEY": "sk-of-the-credential",
        "AZURE_EU_BASE": fake.url,
    }
    with serving("--config", str(FILE), env=environ) as running:
        yield running


@pytest.fixture
def client(pool: Pool) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {MASTER}"}
    with httpx.Client(base_url=pool.url, trust_env=False, timeout=30, headers=headers) as one:
        yield one


def test_it_starts_unchanged_and_says_once_what_it_ignores(pool: Pool) -> None:
    said = pool.program.output

    for ignored in ("gpt-4o", "mcp_servers", "router_settings.routing_strategy"):
        assert ignored in said
    assert said.count("general_settings.store_model_in_db") == 1
    assert "sk-of-the" not in said
    assert "sk-left-over" not in said


@pytest.mark.parametrize("model", NAMES)
def test_its_models_answer_under_all_their_names(client: httpx.Client, model: str) -> None:
    answer = client.post("/v1/embeddings", json=asked(model, ["one", "two"]))

    assert answer.status_code == 200, answer.text
    spaces = [right(["one", "two"], upstream=upstream) for upstream in UPSTREAMS]
    assert vectors_in(answer.json()) in spaces


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/embeddings",
        f"/engines/{SMALL}/embeddings",
        f"/engines/{SMALL}%40openai/embeddings",
        f"/openai/deployments/{SMALL}/embeddings?api-version=2024-10-21",
    ],
)
def test_every_path_answers_and_its_model_wins(client: httpx.Client, path: str) -> None:
    model = "nobody-serves-this" if SMALL in path else SMALL

    answer = client.post(path, json=asked(model, "text"))

    assert answer.status_code == 200, answer.text


def test_an_azure_client_is_known_by_its_own_header(pool: Pool) -> None:
    url = f"{pool.url}/openai/deployments/{SMALL}/embeddings?api-version=2024-10-21"

    with httpx.Client(trust_env=False, timeout=30) as stranger:
        known = stranger.post(url, json={"input": "text"}, headers={"api-key": MASTER})
        unknown = stranger.post(url, json={"input": "text"}, headers={"api-key": "wrong"})

    assert known.status_code == 200
    assert unknown.status_code == 401


def test_a_slash_of_the_model_may_be_written_as_percent_2f(client: httpx.Client) -> None:
    answers = [
        client.post(f"/engines/{model}/embeddings", json={"input": "text"})
        for model in ("no%2Fsuch%2Fmodel", "no/such/model")
    ]

    assert [seen(answer)[0] for answer in answers] == [404, 404]
    for answer in answers:
        assert "`no/such/model`" in answer.json()["error"]["message"]


def test_a_chat_model_of_the_file_is_not_served(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json=asked("gpt-4o", "text"))

    assert seen(answer) == (404, "invalid_request_error", "model", "model_not_found")


def test_both_keys_of_the_file_are_used(client: httpx.Client, fake: FakeProvider) -> None:
    for model in (f"{SMALL}@openai", f"{SMALL}@azure"):
        assert client.post("/v1/embeddings", json=asked(model, "text")).status_code == 200

    assert {call.key for call in fake.calls} >= {"sk-of-the-file", "sk-of-the-credential"}
