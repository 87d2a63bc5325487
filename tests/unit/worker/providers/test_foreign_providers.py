"""Every provider behind LiteLLM, configured as an operator would, against its own wire format."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from embedpool_shared.config.litellm_sections import LitellmParams, ModelInfo
from embedpool_shared.errors import (
    KeyForbidden,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    RefusedInput,
)
from embedpool_worker.deployments import Deployment
from embedpool_worker.fleet.assembly import Order, assembled
from embedpool_worker.fleet.model_names import KnownModels, place_of
from embedpool_worker.providers.adapters import build
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.litellm_sdk import MAX_THREADS
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.foreign_cases import AWS, CASES, KEY, Case
from support.foreign_formats import ACCESS_TOKEN, DIMS, ForeignProvider
from support.http_server import Response
from support.vectors import vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS: Final = ["alpha", "beta", "gamma"]
KNOWN: Final = KnownModels({}, {})
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def lasting() -> Iterator[ForeignProvider]:
    with ForeignProvider.in_thread() as provider:
        yield provider


@pytest.fixture
def foreign(lasting: ForeignProvider) -> ForeignProvider:
    lasting.forget()
    return lasting


def deployed(case: Case, url: str) -> Deployment:
    """Deploy what the configuration of `case` says."""
    params = LitellmParams.model_validate(case.litellm_params(url))
    place = place_of(params.model, KNOWN, has_address=True)
    assert place is not None
    order = Order(id="d", place=place, params=params, about=ModelInfo(), timeout_s=20.0)
    return assembled(order, KNOWN, {}).deployment


def embed(loop: asyncio.Runner, case: Case, url: str, **more: Any) -> ProviderAnswer:
    where = deployed(case, url)
    asked: dict[str, Any] = {
        "model": where.upstream_model,
        "inputs": TEXTS,
        "dimensions": case.dimensions,
        "params": case.params,
        "secret": where.keys[0].secret if where.keys else None,
        "timeout_s": 20.0,
    }

    async def run() -> ProviderAnswer:
        provider = build(where, HttpOptions())
        try:
            return await provider.embed(ProviderCall(**(asked | more)))
        finally:
            await provider.close()

    return loop.run(run())


@every_case
def test_every_text_gets_its_own_vector_of_the_size_asked_for(
    loop: asyncio.Runner, foreign: ForeignProvider, case: Case
) -> None:
    answer = embed(loop, case, foreign.url)

    dims = case.dimensions or DIMS
    assert list(answer.vectors) == [vector_of(text, dims) for text in TEXTS]
    assert answer.dims == dims


@every_case
def test_what_is_asked_arrives_in_the_providers_own_words_at_its_address(
    loop: asyncio.Runner, foreign: ForeignProvider, case: Case
) -> None:
    embed(loop, case, foreign.url)

    assert len(foreign.requests) == case.calls
    for head, fields in foreign.requests:
        assert head.path == case.path
        assert {name: fields.get(name) for name in case.sent} == dict(case.sent)
        # LiteLLM repeats watsonx's token there.
        assert KEY not in str(fields) or case.name == "watsonx"


@every_case
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedInput),
        (401, KeyRejected),
        (403, KeyForbidden),
        (429, ProviderThrottled),
        (500, ProviderUnavailable),
        (302, ProviderUnavailable),
    ],
)
def test_a_refusal_repeats_no_credential_and_is_not_asked_twice(
    loop: asyncio.Runner,
    foreign: ForeignProvider,
    case: Case,
    status: int,
    kind: type[ProviderError],
) -> None:
    foreign.echoes_status = status

    with pytest.raises(ProviderError) as caught:
        embed(loop, case, foreign.url)

    assert type(caught.value) is kind
    assert len(foreign.requests) <= case.calls
    said = f"{caught.value.message} {caught.value.code} {caught.value.param}"
    for secret in (KEY, ACCESS_TOKEN, "AKIAIOSFODNN7EXAMPLE", "Signature=", "signature="):
        assert secret not in said
    signed = [head.headers.get("authorization", "") for head, _ in foreign.requests]
    assert not any(one.rpartition(" ")[2] in said for one in signed if one)


@every_case
def test_the_keys_limits_are_read_off_answers_and_refusals(
    loop: asyncio.Runner, foreign: ForeignProvider, case: Case
) -> None:
    limits = {"X-RateLimit-Remaining-Tokens": "7", "Retry-After": "1.5", "Set-Cookie": "x=1"}
    foreign.refusal = Response(b'{"message":"slow down"}', 429, limits)

    with pytest.raises(ProviderThrottled) as caught:
        embed(loop, case, foreign.url)

    assert caught.value.retry_after_s == 1.5
    assert caught.value.headers == {"x-ratelimit-remaining-tokens": "7", "retry-after": "1.5"}


@every_case
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"5", b'{"data":[]}', b'{"embeddings":{}}', b'{"predictions":[{}]}',
     b'[["a"]]', b'{"results":null}', b'{"embedding":"x"}', b'{"data":[{"embedding":null}]}'],
)  # fmt: skip
def test_a_200_of_another_shape_is_some_error_of_ours(
    loop: asyncio.Runner, foreign: ForeignProvider, case: Case, body: bytes
) -> None:
    foreign.refusal = Response(body)

    with pytest.raises(ProviderError):
        embed(loop, case, foreign.url)


@every_case
def test_a_strange_parameter_never_becomes_an_argument(
    loop: asyncio.Runner, foreign: ForeignProvider, case: Case
) -> None:
    elsewhere = "http://127.0.0.1:1"
    names = ("api_base", "base_url", "extra_headers", "custom_llm_provider", "client", "headers")
    for name in (*names, "aws_bedrock_runtime_endpoint", "vertex_credentials", "timeout"):
        try:
            embed(loop, case, foreign.url, params={name: elsewhere})
        except RefusedInput:
            continue
        except ProviderError as error:
            pytest.fail(f"{name}: {error}")

    assert all(head.path == case.path for head, _ in foreign.requests)


@every_case
@pytest.mark.parametrize("value", [5, ["query"]])
def test_a_kind_that_is_no_word_is_refused(
    loop: asyncio.Runner, foreign: ForeignProvider, case: Case, value: object
) -> None:
    with pytest.raises(RefusedInput):
        embed(loop, case, foreign.url, params={"input_type": value})

    assert foreign.requests == []


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def test_a_google_account_signs_in_once_and_for_all_calls(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    where = deployed(named("vertex"), foreign.url)
    call = ProviderCall(model=where.upstream_model, inputs=TEXTS, dimensions=64)

    async def run() -> None:
        provider = build(where, HttpOptions())
        await asyncio.gather(*(provider.embed(call) for _ in range(3)))
        await provider.close()

    loop.run(run())

    assert len(foreign.requests) == 3
    [asked] = foreign.sign_ins
    assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"


def test_watsonx_signs_in_with_its_key_at_ibms_address(
    loop: asyncio.Runner, foreign: ForeignProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATSONX_IAM_URL", f"{foreign.url}/token")
    case = replace(named("watsonx"), config={"api_key": KEY, "project_id": "p"})

    answer = embed(loop, case, foreign.url)

    assert len(answer.vectors) == len(TEXTS)
    assert [asked["apikey"] for asked in foreign.sign_ins] == [KEY]
    assert foreign.requests[0][0].headers["authorization"] == f"Bearer {ACCESS_TOKEN}"


def test_sagemaker_is_reached_through_boto3_where_its_environment_says(
    loop: asyncio.Runner, foreign: ForeignProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", foreign.url)
    sagemaker = Case(name="sagemaker", model="sagemaker/endpoint", config=AWS, path="")

    answer = embed(loop, sagemaker, "")

    assert list(answer.vectors) == [vector_of(text, DIMS) for text in TEXTS]
    [(head, fields)] = foreign.requests
    assert head.path == "/endpoints/endpoint/invocations"
    assert head.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=")
    assert fields == {"inputs": TEXTS}
    assert answer.total_tokens is None


def test_vertex_takes_gemini_one_text_a_call(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    gemini = "/v1/projects/p/locations/l/publishers/google/models/gemini-embedding-001"
    case = replace(named("vertex"), model="vertex_ai/gemini-embedding-001", at=gemini)

    with pytest.raises(ProviderError):
        embed(loop, case, foreign.url)
    answer = embed(loop, case, foreign.url, inputs=["alpha"])

    assert deployed(case, foreign.url).caps.max_items == 1
    assert list(answer.vectors) == [vector_of("alpha", 64)]


def test_an_access_token_is_sent_where_aws_is_signed_in_by_one(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    where = replace(named("titan-v1"), config={"api_key": KEY, "aws_region_name": "us-east-1"})
    foreign.echoes_status = 403

    with pytest.raises(KeyForbidden) as caught:
        embed(loop, where, foreign.url)

    assert {head.headers["authorization"] for head, _ in foreign.requests} == {f"Bearer {KEY}"}
    assert KEY not in caught.value.message


@pytest.mark.parametrize("name", ["text-embedding-3-small", "https", "a-https-b", "hTTps://x/y"])
def test_no_name_becomes_an_address_at_huggingface(
    loop: asyncio.Runner, foreign: ForeignProvider, name: str
) -> None:
    case = named("huggingface")

    if "https" not in name.lower():
        embed(loop, case, foreign.url, model=name)
        assert [head.path for head, _ in foreign.requests] == ["/hf"]
        return
    with pytest.raises(RefusedInput):
        embed(loop, case, foreign.url, model=name)
    assert foreign.requests == []


def test_a_model_that_embeds_texts_in_their_context_shares_no_call(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    case = replace(named("voyage"), model="voyage/voyage-context-3")

    with pytest.raises(RefusedInput, match="context"):
        embed(loop, case, foreign.url)


def test_behind_a_wildcard_the_calls_model_decides(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    case = replace(named("bedrock-cohere"), model="bedrock/*")

    answer = embed(loop, case, foreign.url, model="cohere.embed-english-v3")

    assert list(answer.vectors) == [vector_of(text, DIMS) for text in TEXTS]
    [(_, fields)] = foreign.requests
    assert fields["input_type"] == "search_query"


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("/cohere", "/cohere"),
        ("/cohere/v2/embed", "/cohere/v2/embed"),
        ("", "/v2/embed"),
        ("/v1", "/v1/embed"),
        ("/v2/", "/v2/embed"),
    ],
)
def test_coheres_address_is_completed_where_it_is_only_a_base(
    loop: asyncio.Runner, foreign: ForeignProvider, base: str, path: str
) -> None:
    foreign.refusal = Response(b'{"message":"no"}', 500)

    with pytest.raises(ProviderUnavailable):
        embed(loop, replace(named("cohere-v3"), at=base), foreign.url)

    assert [head.path for head, _ in foreign.requests] == [path]


def test_litellms_own_refusals_hold_no_stack_trace(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    foreign.refusal = Response(b'{"predictions":5}')

    with pytest.raises(ProviderError) as caught:
        embed(loop, named("watsonx"), foreign.url)

    assert "Traceback" not in caught.value.message


def test_azure_is_signed_in_to_by_token_where_there_is_no_key(loop: asyncio.Runner) -> None:
    azure = Case(
        name="azure", model="azure/text-embedding-3-small", config={"azure_ad_token": KEY}, path=""
    )
    with FakeProvider.in_thread(dims=DIMS) as fake:
        embed(loop, azure, fake.url)

        [call] = fake.calls
        fake.behave(Behaviour(status=403, body=f'{{"message":"no {KEY}"}}'))
        with pytest.raises(KeyForbidden) as caught:
            embed(loop, azure, fake.url)

    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert "no-key" not in str(call.headers)
    assert KEY not in caught.value.message


def test_the_loops_threads_are_enough_for_what_litellm_does_in_them(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    embed(loop, named("mistral"), foreign.url)
    everybody = threading.Barrier(MAX_THREADS)

    async def run() -> None:
        await asyncio.gather(*(asyncio.to_thread(everybody.wait, 20.0) for _ in range(MAX_THREADS)))

    loop.run(run())

    assert not everybody.broken
