"""Every provider behind a whole pool: configured as for LiteLLM, heard in its own format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from e2e.asking import asked, error_of, seen, vectors_in
from e2e.models import entry
from e2e.pools import Pool, serving
from embedpool_shared import tokens
from support.connect_proxy import ConnectProxy
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.foreign_cases import AWS, CASES, KEY, Case
from support.foreign_formats import ACCESS_TOKEN, DIMS, ForeignProvider
from support.tls import make_tls_files
from support.vectors import vector_of

pytestmark = pytest.mark.long

TEXTS: Final = ["alpha", "beta", "gamma"]
IDS: Final = [[15339, 1917], [1318]]
SAGEMAKER: Final = Case(name="sagemaker", model="sagemaker/endpoint", config=AWS, calls=1, path="")
EVERY: Final = (*CASES, SAGEMAKER)
OPENAI_WIRE: Final = {
    "azure": "azure/text-embedding-3-small",
    "vllm": "hosted_vllm/BAAI/bge-m3",
    "tei": "tei/BAAI/bge-m3",
    "infinity": "infinity/BAAI/bge-m3",
    "lm-studio": "lm_studio/nomic-embed-text",
    "siliconflow": "siliconflow/BAAI/bge-m3",
    "own-server": "openai/some-model",
}
ELSEWHERE: Final = "http://127.0.0.1:1/"
every_case = pytest.mark.parametrize("case", EVERY, ids=[case.name for case in EVERY])


@pytest.fixture(scope="module")
def lasting() -> Iterator[ForeignProvider]:
    with ForeignProvider.in_thread() as provider:
        yield provider


@pytest.fixture
def foreign(lasting: ForeignProvider) -> Iterator[ForeignProvider]:
    lasting.forget()
    yield lasting
    lasting.forget()


@pytest.fixture(scope="module")
def wire() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(lasting: ForeignProvider, wire: FakeProvider) -> Iterator[Pool]:
    listed = [
        {
            "model_name": case.name,
            "litellm_params": case.litellm_params(lasting.url),
            "model_info": {"mode": "embedding", "output_dimensions": DIMS},
        }
        for case in EVERY
    ]
    listed += [
        {
            "model_name": f"{case.name}-rejected",
            "litellm_params": case.litellm_params(lasting.url),
            "model_info": {"mode": "embedding", "output_dimensions": DIMS},
        }
        for case in EVERY
    ]
    listed += [
        entry(name, model, wire.url if name == "azure" else wire.api_base, KEY)
        for name, model in OPENAI_WIRE.items()
    ]
    env = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": lasting.url}
    with serving(config={"model_list": listed}, env=env) as running:
        yield running


def ask(client: httpx.Client, model: str, given: Any, **fields: Any) -> httpx.Response:
    return client.post("/v1/embeddings", json=asked(model, given, **fields))


@every_case
def test_a_caller_gets_every_texts_vector(
    client: httpx.Client, foreign: ForeignProvider, case: Case
) -> None:
    sizes = {} if case.dimensions is None else {"dimensions": case.dimensions}

    answer = ask(client, case.name, TEXTS, **sizes, **case.params)

    assert answer.status_code == 200, answer.text
    dims = case.dimensions or DIMS
    assert vectors_in(answer.json()) == [vector_of(text, dims) for text in TEXTS]
    for _, fields in foreign.requests:
        assert {name: fields.get(name) for name in case.sent} == dict(case.sent)
    assert len(foreign.requests) == case.calls or case.name == "titan-v1"


@every_case
def test_token_arrays_arrive_as_the_text_they_stand_for(
    client: httpx.Client, foreign: ForeignProvider, case: Case
) -> None:
    answer = ask(client, case.name, IDS)

    assert answer.status_code == 200, answer.text
    texts = [tokens.decode("cl100k_base", ids) for ids in IDS]
    assert vectors_in(answer.json()) == [vector_of(text, DIMS) for text in texts]
    assert answer.json()["usage"]["prompt_tokens"] == sum(map(len, IDS))


@every_case
def test_a_credential_that_is_repeated_in_a_refusal_goes_no_further(
    client: httpx.Client, foreign: ForeignProvider, pool: Pool, case: Case
) -> None:
    foreign.echoes_status = 400
    answer = ask(client, case.name, "x")
    foreign.echoes_status = 403
    rejected = ask(client, f"{case.name}-rejected", "x")

    assert answer.status_code == 400
    assert error_of(answer)["message"].startswith("[")
    assert rejected.status_code >= 500
    for secret in (KEY, ACCESS_TOKEN, "AKIAIOSFODNN7EXAMPLE", "Signature="):
        assert secret not in answer.text + rejected.text
        assert secret not in pool.program.output


@pytest.mark.parametrize("name", OPENAI_WIRE)
def test_servers_of_the_openai_format_answer_texts_and_token_arrays(
    client: httpx.Client, wire: FakeProvider, name: str
) -> None:
    wire.behave(Behaviour(refuses_base64=True) if name == "lm-studio" else Behaviour())
    wire.forget()

    answers = [ask(client, name, TEXTS), ask(client, name, IDS)]

    wire.behave()
    model = OPENAI_WIRE[name].partition("/")[2]
    inputs: list[Any] = IDS if name == "azure" else [tokens.decode("cl100k_base", i) for i in IDS]
    expected = [[vector_of(one, DIMS, model) for one in given] for given in (TEXTS, inputs)]
    assert [vectors_in(answer.json()) for answer in answers] == expected
    assert {call.key for call in wire.calls} == {KEY}
    assert all(call.fields["encoding_format"] in {"base64", "float"} for call in wire.calls)


@pytest.mark.parametrize(
    "evil",
    [
        {"api_base": ELSEWHERE},
        {"base_url": ELSEWHERE},
        {"extra_body": {"api_base": ELSEWHERE}},
        {"extra_body": {"metadata": {"deep": [{"base_url": ELSEWHERE}]}}},
        {"custom_llm_provider": "openai"},
        {"client": "x"},
        {"extra_headers": {"authorization": "Bearer x"}},
        {"headers": {"host": "evil"}},
        {"aws_bedrock_runtime_endpoint": ELSEWHERE},
        {"vertex_credentials": "{}"},
        {"watsonx_token": "x"},
        {"azure_ad_token": "x"},
        {"proxy": ELSEWHERE},
        {"timeout_config": {"timeout": 1}},
        {"Api-Base": ELSEWHERE},
        {"extra_body": {"embedding_types": ["int8"]}},
        {"extra_body": {"output_dtype": "int8"}},
        {"extra_body": {"input": ["other"]}},
        {"input_type": "os.environ/HOME"},
    ],
    ids=lambda evil: next(iter(evil)),
)
@pytest.mark.parametrize("name", ["mistral", "cohere-v3", "titan-v2", "own-server"])
def test_nothing_a_caller_writes_moves_a_call_or_changes_its_numbers(
    client: httpx.Client, foreign: ForeignProvider, wire: FakeProvider, name: str, evil: Any
) -> None:
    wire.forget()

    answer = client.post("/v1/embeddings", json=asked(name, "x") | evil)

    assert answer.status_code == 400, answer.text
    assert foreign.requests == []
    assert wire.calls == []


@pytest.mark.parametrize("name", ["huggingface", "titan-v1", "sagemaker", "databricks", "watsonx"])
def test_a_size_that_a_model_has_not_is_refused_and_not_forgotten(
    client: httpx.Client, foreign: ForeignProvider, name: str
) -> None:
    answer = ask(client, name, "x", dimensions=7)

    assert seen(answer)[:3] == (400, "invalid_request_error", "dimensions")
    assert foreign.requests == []


def test_a_kind_the_provider_does_not_have_is_its_to_refuse(
    client: httpx.Client, foreign: ForeignProvider
) -> None:
    answer = ask(client, "cohere-v3", "x", input_type="poetry")

    assert seen(answer)[0] == 400
    assert "valid input_type" in error_of(answer)["message"]
    assert foreign.requests[-1][1]["input_type"] == "poetry"


def test_every_call_of_a_pool_goes_through_the_operators_proxy(
    tmp_path: Path, plain_client: httpx.Client
) -> None:
    tls = make_tls_files(tmp_path)
    base = "https://localhost:4433/plain/v1"
    listed = [
        entry(name, model, base, KEY)
        for name, model in (("wire", "openai/m"), ("sdk", "mistral/m"))
    ]
    with ForeignProvider.in_thread(tls) as provider, ConnectProxy.in_thread(provider.port) as proxy:
        http = {"proxy": proxy.url, "ca_file": str(tls.ca)}
        with serving(config={"model_list": listed, "http": http}) as pool:
            for name in ("wire", "sdk"):
                url = f"{pool.url}/v1/embeddings"
                answer = plain_client.post(url, json=asked(name, TEXTS))

                assert answer.status_code == 200, answer.text
                assert vectors_in(answer.json()) == [vector_of(text, DIMS) for text in TEXTS]
        assert proxy.tunnels == ["localhost:4433"] * 2
