"""Everything that the documents of Relay, LiteLLM's proxy, MonoRelay and the platform show, works.

`documents` has their snippets and says what each of them had lost.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from e2e import documents
from e2e.asking import UPSTREAM, error_of, float32_of, right
from e2e.documents import Snippet
from e2e.keys import MASTER, Office, bearer, books_of
from e2e.models import entry
from e2e.pools import Pool, serving, short_directory
from embedpool_shared import tokens
from support import foreign_bodies
from support.connect_proxy import ConnectProxy
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.foreign_formats import ForeignProvider
from support.tls import make_tls_files
from support.tools import tool
from support.vectors import Input, vector_of

FOX: Final = "The quick brown fox jumps over the lazy dog"
OWN_KEY: Final = "sk-proj-of-the-callers-own"
PLATFORMS_MODEL: Final = "your-embedding-model-or-deployment-id"
PATHS: Final = (
    "/v1/embeddings",
    "/embeddings",
    f"/engines/{UPSTREAM}/embeddings",
    f"/openai/deployments/{UPSTREAM}/embeddings",
)
SIZES: Final = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
    "embed-english-v3.0": 1_024,
    "embed-multilingual-v3.0": 1_024,
    "azure/text-embedding-3-small": 1_536,
}
"""Relay's table of models, and how long their vectors are."""


def exact_count(item: Input) -> int:
    """Count as OpenAI does: the documents' figures are real."""
    return tokens.count("cl100k_base", item) if isinstance(item, str) else len(item)


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[int, FakeProvider]]:
    """A provider for each length of vectors."""
    with (
        FakeProvider.in_thread(count_tokens=exact_count) as usual,
        FakeProvider.in_thread(dims=3_072) as large,
        FakeProvider.in_thread(dims=1_024) as cohere,
    ):
        yield {1_536: usual, 3_072: large, 1_024: cohere}


@pytest.fixture(scope="module")
def pool(fakes: dict[int, FakeProvider]) -> Iterator[Pool]:
    """One pool that is configured as all four products are."""
    usual = fakes[1_536]
    small = entry(UPSTREAM, f"openai/{UPSTREAM}", usual.api_base, "sk-ours", native_token_ids=True)
    small["litellm_params"]["passthrough"] = True
    large = "text-embedding-3-large"
    config = {
        "model_list": [
            small,
            entry(large, f"openai/{large}", fakes[3_072].api_base, "sk-ours"),
            entry("keyless", f"openai/{UPSTREAM}", usual.api_base, "sk-rejected"),
        ],
        "router_settings": {"model_group_alias": {PLATFORMS_MODEL: UPSTREAM, "my-alias": UPSTREAM}},
        "general_settings": {"master_key": MASTER},
        "auth": {"key_prefix": "gr-", "allow_passthrough_keys": True},
        "unlisted_providers": ["openai", "cohere", "azure"],
        **yaml.safe_load(documents.DEFAULT_MODEL.text()),
    }
    environ = {
        "OPENAI_API_KEY": "sk-ours",
        "OPENAI_API_BASE": usual.api_base,
        "COHERE_API_KEY": "co-ours",
        "COHERE_API_BASE": f"{fakes[1_024].url}/v2/embed",
        "AZURE_API_KEY": "az-ours",
        "AZURE_API_BASE": usual.url,
        "AZURE_API_VERSION": "2024-10-21",
    }
    with serving(config=config, env=environ) as running:
        yield running


@pytest.fixture
def fake(fakes: dict[int, FakeProvider]) -> Iterator[FakeProvider]:
    provider = fakes[1_536]
    provider.forget()
    yield provider
    provider.behave()


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


@pytest.fixture
def key(office: Office) -> str:
    return office.key()


def by_curl(snippet: Snippet, url: str, *, key: str = "") -> Any:
    """Run what a reader would paste into a shell, and read what it prints."""
    tool("curl", package="curl")
    command = snippet.text(url=url, key=key, own_key=OWN_KEY)
    environ = {"PATH": os.environ["PATH"], "BASE_URL": url, "API_KEY": key}
    ended = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env=environ,
    )
    return json.loads(ended.stdout)


def check_documented(answer: dict[str, Any], count: int = 1) -> None:
    """An answer has the fields that all four documents show, and no others."""
    assert list(answer) == ["object", "data", "model", "usage"]
    assert answer["object"] == "list"
    assert answer["usage"].keys() == {"prompt_tokens", "total_tokens"}
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    assert len(answer["data"]) == count
    for index, item in enumerate(answer["data"]):
        assert item.keys() == {"object", "index", "embedding"}
        assert (item["object"], item["index"]) == ("embedding", index)


def vectors_of(answer: dict[str, Any]) -> list[bytes]:
    return [float32_of(item["embedding"]) for item in answer["data"]]


@pytest.mark.parametrize("snippet", documents.CURL, ids=lambda one: f"{one.product}: {one.about}")
def test_a_curl_command_prints_the_documented_answer(
    pool: Pool, key: str, fake: FakeProvider, snippet: Snippet
) -> None:
    answer = by_curl(snippet, pool.url, key=key)

    check_documented(answer)
    (call,) = fake.calls
    assert vectors_of(answer) == right(call.items)
    assert call.key == (OWN_KEY if "passed through" in snippet.about else "sk-ours")
    assert answer["model"] == UPSTREAM


@pytest.mark.parametrize(
    "shown",
    documents.PYTHON,
    ids=[f"{one.product}: {one.about}" for one, _ in documents.PYTHON],
)
def test_a_python_program_prints_what_it_should(
    pool: Pool,
    key: str,
    fake: FakeProvider,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shown: tuple[Snippet, str],
) -> None:
    snippet, prints = shown
    program = tmp_path / "snippet.py"
    program.write_text(snippet.text(url=pool.url, key=key))

    ended = runpy.run_path(str(program))
    ended["client"].close()

    assert re.fullmatch(prints, capsys.readouterr().out)
    found = [item.embedding for item in ended["response"].data]
    dims = len(found[0])
    assert list(map(float32_of, found)) == right(fake.calls[0].items, dims=dims)
    assert [item.index for item in ended["response"].data] == list(range(len(found)))


def test_relays_answer_is_relays_to_the_last_token(office: Office, key: str) -> None:
    body = {"model": UPSTREAM, "input": FOX}

    answer = office.ask("POST", "/v1/embeddings", key=key, json=body).json()

    check_documented(answer)
    assert answer["model"] == "text-embedding-3-small"
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


@pytest.mark.parametrize(("model", "dims"), SIZES.items())
def test_relays_models_are_passed_through_by_their_names(
    office: Office, key: str, model: str, dims: int
) -> None:
    body = {"model": model, "input": "Hello world"}

    answer = office.ask("POST", "/v1/embeddings", key=key, json=body)

    assert answer.status_code == 200, answer.text
    upstream = model.removeprefix("azure/")
    assert vectors_of(answer.json()) == right(["Hello world"], dims=dims, upstream=upstream)


def test_relays_anthropic_has_no_embeddings(office: Office, key: str) -> None:
    body = {"model": "anthropic/claude-sonnet-4", "input": "Hello world"}

    refusal = office.ask("POST", "/v1/embeddings", key=key, json=body)

    assert refusal.status_code == 400
    assert "anthropic has no embedding models" in error_of(refusal)["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("snippet", documents.BODIES, ids=lambda one: f"{one.product}: {one.about}")
def test_a_body_is_answered_at_every_route(
    office: Office, key: str, path: str, snippet: Snippet
) -> None:
    body = json.loads(snippet.text())

    answer = office.ask("POST", path, key=key, json=body).json()

    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    check_documented(answer, len(inputs))
    assert vectors_of(answer) == right(inputs)


def test_the_proxys_headers_and_fields_are_kept_with_the_spend(
    office: Office, pool: Pool, key: str
) -> None:
    headers = {"x-litellm-user-id": "user-123", "x-litellm-metadata": '{"trace": "t-1"}'}
    body = {
        "model": UPSTREAM,
        "input": "Sample text",
        "encoding_format": "base64",
        "dimensions": 512,
    }

    answer = office.client.post(
        f"{pool.url}/v1/embeddings", json=body, headers=bearer(key) | headers
    )
    named = office.ask("POST", "/v1/embeddings", key=key, json=body | {"user": "user-456"})

    assert vectors_of(answer.json()) == right(["Sample text"], dims=512)
    assert isinstance(answer.json()["data"][0]["embedding"], str)
    assert named.status_code == 200
    with books_of(pool) as books:
        books.wait_until_settled()
    first, second = office.log(api_key=key)
    assert (first["end_user"], first["metadata"]) == ("user-123", {"trace": "t-1"})
    assert second["end_user"] == "user-456"
    assert office.of_key(key)["spend"] == pytest.approx(float(first["spend"] + second["spend"]))


def test_the_proxys_errors_are_the_documented_ones(office: Office, pool: Pool) -> None:
    throttled = office.key(rpm_limit=1)
    good: dict[str, Any] = {"model": UPSTREAM, "input": "x"}
    office.ask("POST", "/v1/embeddings", key=throttled, json=good)

    refusals = {
        401: office.ask("POST", "/v1/embeddings", key="gr-xxx", json=good),
        429: office.ask("POST", "/v1/embeddings", key=throttled, json=good),
        400: office.ask("POST", "/v1/embeddings", json=good | {"input": {"text": "x"}}),
    }

    documented = {
        401: {
            "message": "Invalid API key",
            "type": "invalid_request_error",
            "code": "invalid_api_key",
        },
        429: {"message": "Rate limit exceeded for key", "type": "rate_limit_error"},
        400: {"message": "Invalid input format", "type": "invalid_request_error"},
    }
    for status, error in documented.items():
        assert refusals[status].status_code == status
        found = error_of(refusals[status])
        assert found["message"].startswith(error.pop("message"))
        assert {name: found[name] for name in error} == error
    assert error_of(refusals[401])["message"] == "Invalid API key"


@pytest.mark.parametrize("model", ["my-alias", "My_Alias", f"{UPSTREAM}@openai", "MYALIAS@OpenAI"])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_monorelays_aliases_and_providers_are_understood(
    office: Office, key: str, model: str, encoding: str
) -> None:
    body = {"model": model, "input": ["a", "b"], "encoding_format": encoding}

    answer = office.ask("POST", "/v1/embeddings", key=key, json=body).json()

    check_documented(answer, 2)
    assert vectors_of(answer) == right(["a", "b"])
    assert answer["model"] == UPSTREAM
    assert {type(item["embedding"]) for item in answer["data"]} == {
        {"float": list, "base64": str}[encoding]
    }


def test_monorelays_error_without_keys_is_the_documented_one(
    office: Office, key: str, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(key="sk-rejected", status=401))

    refusal = office.ask("POST", "/v1/embeddings", key=key, json={"model": "keyless", "input": "x"})

    assert refusal.status_code == 503
    error = error_of(refusal)
    assert error["message"] == "[openai] No available keys for provider 'openai'"
    assert error["type"] == "no_keys"


@pytest.mark.parametrize(
    "given",
    ["one", ["one", "two"], [[1, 2, 3], [4, 5, 6]], [1, 2, 3]],
    ids=["a text", "texts", "token arrays", "a token array"],
)
def test_the_platforms_inputs_and_optional_attributes_arrive(
    office: Office, key: str, fake: FakeProvider, given: Any
) -> None:
    body = {
        "model": PLATFORMS_MODEL,
        "input": given,
        "encoding_format": "float",
        "dimensions": 256,
        "user": "end-user-1",
        "metadata": {"project": "docs"},
        "extra_body": {"priority": "low"},
    }

    answer = office.ask("POST", "/v1/embeddings", key=key, json=body).json()

    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    check_documented(answer, len(inputs))
    assert vectors_of(answer) == right(inputs, dims=256)
    (call,) = fake.calls
    assert (call.fields["priority"], call.fields["dimensions"]) == ("low", 256)
    assert call.fields.keys().isdisjoint({"user", "metadata", "extra_body"})


@pytest.fixture(scope="module")
def clouds(fakes: dict[int, FakeProvider]) -> Iterator[Pool]:
    """LiteLLM's example of three clouds, as a file."""
    with (
        pytest.MonkeyPatch.context() as patch,
        ForeignProvider.in_thread() as amazon,
        short_directory() as directory,
    ):
        patch.setattr(foreign_bodies, "DIMS", 1_536)  # as many as Titan really answers
        file = directory / "config.yaml"
        file.write_text(documents.THREE_CLOUDS.text())
        environ = {
            "AZURE_API_BASE": fakes[1_536].url,
            "AZURE_API_KEY": "az-key",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "aws-secret",
            "AWS_REGION_NAME": "us-east-1",
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": amazon.url,
            "AWS_BEDROCK_RUNTIME_ENDPOINT": amazon.url,
        }
        with serving("--config", str(file), env=environ) as running:
            yield running


def test_the_proxys_three_clouds_start_with_a_warning_and_answer_curl(clouds: Pool) -> None:
    assert re.search(r"warning: general_settings.master_key: .* well-known", clouds.program.output)

    answer = by_curl(documents.THREE_CLOUDS_CURL, clouds.url)

    check_documented(answer)
    assert vectors_of(answer) == [vector_of("The food was delicious and the waiter..", 1_536)]


@pytest.mark.parametrize("model", ["amazon-embeddings", "azure-embeddings"])
def test_the_proxys_other_clouds_answer_too(
    clouds: Pool, plain_client: httpx.Client, model: str
) -> None:
    text = "The food was delicious and the waiter.."
    body = {"input": text, "model": model}

    answer = plain_client.post(f"{clouds.url}/embeddings", json=body, headers=bearer("sk-1234"))
    stranger = plain_client.post(f"{clouds.url}/embeddings", json=body)

    assert answer.status_code == 200, answer.text
    check_documented(answer.json())
    upstream = "azure-embedding-model" if "azure" in model else ""
    assert vectors_of(answer.json()) == [vector_of(text, 1_536, upstream)]
    assert stranger.status_code == 401


def test_the_proxys_feature_extraction_models_answer_curl(tmp_path: Path) -> None:
    """Hugging Face's own address is not ours, so its name leads to the fake by a proxy."""
    names = ("inference.example", "router.huggingface.co", "openai.example")
    tls = make_tls_files(tmp_path, *names)
    file = tmp_path / "config.yaml"
    file.write_text(documents.HUGGING_FACE.text(endpoint="https://inference.example/hf"))
    with (
        pytest.MonkeyPatch.context() as patch,
        ForeignProvider.in_thread(tls) as everybody,
        ConnectProxy.in_thread(everybody.port) as proxy,
    ):
        patch.setattr(foreign_bodies, "DIMS", 1_536)
        environ = {
            "EMBEDPOOL_HTTP_PROXY": proxy.url,
            "EMBEDPOOL_HTTP_CA_FILE": str(tls.ca),
            "OPENAI_API_KEY": "sk-ours",
            "OPENAI_API_BASE": "https://openai.example/plain/v1",
        }
        with serving("--config", str(file), env=environ) as pool:
            answers = [by_curl(one, pool.url) for one in documents.HUGGING_FACE_CURL]
            free = documents.HUGGING_FACE_CURL[0].text(url=pool.url).replace("deployed-", "")
            answers.append(by_curl(Snippet(documents.PROXY, "the free api", free), pool.url))
        heard = [head.headers["authorization"] for head, _ in everybody.requests]

    for answer in answers:
        check_documented(answer)
        assert vectors_of(answer) == [vector_of("write a litellm poem", 1_536)]
    assert heard == ["Bearer hf_LdS", "Bearer sk-ours", "Bearer hf_LdS"]
    # Nobody else was asked anything: not about a model, not for a tokenizer.
    assert [host.partition(":")[0] for host in proxy.tunnels] == [
        "inference.example", "openai.example", "router.huggingface.co",
    ]  # fmt: skip
