from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from embedpool_shared.errors import (
    CapExceeded,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    RefusedInput,
    WrongAnswer,
)
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.litellm_sdk import LiteLLMProvider
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Distortion, Ending
from support.foreign_formats import DIMS, ITEM_TOKENS, ForeignProvider
from support.http_server import Response
from support.vectors import token_count, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = ["alpha", "beta", "gamma"]
SPEAKS_OPENAI = ["openai", "azure", "mistral", "voyage", "jina_ai", "together_ai", "nvidia_nim"]
TITAN = "amazon.titan-embed-text-v2:0"
AWS = {
    "aws_access_key_id": "AKIAEXAMPLE",
    "aws_secret_access_key": "example",
    "aws_region_name": "us-east-1",
}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS) as provider:
        yield provider


@pytest.fixture
def foreign() -> Iterator[ForeignProvider]:
    with ForeignProvider.in_thread() as provider:
        yield provider


def deployment(provider: str, api_base: str | None, **more: Any) -> Deployment:
    fields: dict[str, Any] = {
        "id": "d",
        "provider": provider,
        "upstream_model": "m",
        "adapter": Adapter.LITELLM,
        "caps": Caps(max_items=64, max_item_tokens=8_192),
        "api_base": api_base,
    }
    return Deployment(**(fields | more))


def at(fake: FakeProvider, provider: str, **more: Any) -> Deployment:
    base = {"azure": fake.url, "cohere": f"{fake.url}/v2/embed"}.get(provider, fake.api_base)
    return deployment(provider, base, **more)


def embed(
    loop: asyncio.Runner, where: Deployment, *, within_s: float = 30.0, **more: Any
) -> ProviderAnswer:
    asked: dict[str, Any] = {
        "model": where.upstream_model,
        "inputs": TEXTS,
        "secret": "sk-canary-123456",
        "timeout_s": 20.0,
    }

    async def run() -> ProviderAnswer:
        provider = LiteLLMProvider(where, HttpOptions())
        try:
            embedding = provider.embed(ProviderCall(**(asked | more)))
            return await asyncio.wait_for(embedding, within_s)
        finally:
            await provider.close()

    return loop.run(run())


@pytest.mark.parametrize("provider", [*SPEAKS_OPENAI, "cohere"])
def test_every_input_gets_its_own_vector_in_one_http_call(
    loop: asyncio.Runner, fake: FakeProvider, provider: str
) -> None:
    answer = embed(loop, at(fake, provider))

    assert list(answer.vectors) == [vector_of(text, DIMS, "m") for text in TEXTS]
    assert answer.total_tokens == sum(map(token_count, TEXTS))
    assert fake.totals.calls == 1
    assert fake.calls[0].key == "sk-canary-123456"


@pytest.mark.parametrize("provider", [*SPEAKS_OPENAI, "cohere"])
@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Behaviour(status=401), KeyRejected),
        (Behaviour(status=429, headers={"retry-after-ms": "70500"}), ProviderThrottled),
        (Behaviour(status=500), ProviderUnavailable),
        (Behaviour(status=408), ProviderUnavailable),
        (Behaviour(status=307, headers={"location": "/v1/embeddings"}), ProviderUnavailable),
        (Behaviour(max_items=2), CapExceeded),
        (Behaviour(ending=Ending.RESET), ProviderUnavailable),
        (Behaviour(ending=Ending.CUT), ProviderUnavailable),
        (Behaviour(distortion=Distortion.NOT_JSON), WrongAnswer),
        (Behaviour(distortion=Distortion.FEWER), WrongAnswer),
    ],
    ids=["401", "429", "500", "408", "redirect", "cap", "reset", "cut", "not json", "fewer"],
)
def test_a_failure_is_one_of_ours_after_exactly_one_attempt(
    loop: asyncio.Runner,
    fake: FakeProvider,
    provider: str,
    behaviour: Behaviour,
    kind: type[ProviderError],
) -> None:
    fake.behave(behaviour)

    with pytest.raises(kind) as caught:
        embed(loop, at(fake, provider))

    assert fake.totals.calls == 1
    assert "sk-canary" not in caught.value.message
    if kind is ProviderThrottled:
        # More than the 60 s LiteLLM's own helper would believe, and to the millisecond.
        assert caught.value.retry_after_s == 70.5


@pytest.mark.parametrize("provider", ["openai", "mistral", "voyage", "jina_ai"])
def test_vectors_in_another_order_are_put_right(
    loop: asyncio.Runner, fake: FakeProvider, provider: str
) -> None:
    fake.behave(Behaviour(distortion=Distortion.PERMUTED))

    answer = embed(loop, at(fake, provider))

    assert list(answer.vectors) == [vector_of(text, DIMS, "m") for text in TEXTS]


@pytest.mark.parametrize(
    ("provider", "number_format"),
    [("openai", None), ("mistral", "float"), ("voyage", None), ("together_ai", "float")],
)
def test_the_number_format_on_the_wire_is_chosen_per_provider(
    loop: asyncio.Runner, fake: FakeProvider, provider: str, number_format: str | None
) -> None:
    embed(loop, at(fake, provider))

    sent = fake.calls[0].fields.get("encoding_format")
    assert sent == number_format if provider != "openai" else sent in {None, "float", "base64"}


def test_dimensions_reach_a_model_that_litellm_has_never_heard_of(
    loop: asyncio.Runner, fake: FakeProvider
) -> None:
    answer = embed(loop, at(fake, "openai"), dimensions=24)

    assert fake.calls[0].fields["dimensions"] == 24
    assert answer.dims == 24


def test_parameters_are_merged_into_the_body_and_nowhere_else(
    loop: asyncio.Runner, fake: FakeProvider
) -> None:
    embed(loop, at(fake, "mistral"), params={"metadata": {"api_base": "http://evil"}})

    assert fake.calls[0].fields["metadata"] == {"api_base": "http://evil"}


def test_coheres_input_type_is_sent_in_its_own_words(
    loop: asyncio.Runner, fake: FakeProvider
) -> None:
    embed(loop, at(fake, "cohere"), params={"input_type": "query", "truncate": "END"})

    [seen] = fake.calls
    assert (seen.fields["input_type"], seen.fields["truncate"]) == ("search_query", "END")
    assert seen.fields["embedding_types"] == ["float"]


def test_the_providers_headers_come_along(loop: asyncio.Runner, fake: FakeProvider) -> None:
    fake.behave(Behaviour(headers={"X-RateLimit-Remaining-Tokens": "7"}))

    assert embed(loop, at(fake, "cohere")).headers["x-ratelimit-remaining-tokens"] == "7"


def test_a_silent_provider_is_left_in_the_moment_the_call_is_cancelled(
    loop: asyncio.Runner, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(ending=Ending.HANG))

    with pytest.raises(TimeoutError):
        embed(loop, at(fake, "cohere"), within_s=0.2)


def test_huggingface_is_asked_once_and_for_features(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    where = deployment(
        "huggingface",
        f"{foreign.url}/hf",
        upstream_model="sentence-transformers/all-MiniLM-L6-v2",
    )

    answer = embed(loop, where)

    assert list(answer.vectors) == [vector_of(text, DIMS) for text in TEXTS]
    assert [fields["inputs"] for _, fields in foreign.requests] == [TEXTS]
    assert answer.total_tokens is None


def test_gemini_gets_one_batch(loop: asyncio.Runner, foreign: ForeignProvider) -> None:
    where = deployment("gemini", foreign.url, upstream_model="gemini-embedding-001")

    answer = embed(loop, where, params={"task_type": "RETRIEVAL_QUERY"})

    assert list(answer.vectors) == [vector_of(text, DIMS) for text in TEXTS]
    [(_, fields)] = foreign.requests
    assert len(fields["requests"]) == len(TEXTS)


def test_titan_is_asked_side_by_side_and_counts_per_text(
    loop: asyncio.Runner, foreign: ForeignProvider
) -> None:
    where = deployment("bedrock", foreign.url, upstream_model=TITAN, options=AWS)

    answer = embed(loop, where, secret=None)

    assert list(answer.vectors) == [vector_of(text, DIMS) for text in TEXTS]
    assert answer.item_tokens == [ITEM_TOKENS] * 3
    assert answer.total_tokens == 3 * ITEM_TOKENS
    assert len(foreign.requests) == 3
    assert all(fields["embeddingTypes"] == ["float"] for _, fields in foreign.requests)
    assert foreign.server is not None
    assert foreign.server.traffic.connections == 3


def test_titans_first_refusal_ends_the_call(loop: asyncio.Runner, foreign: ForeignProvider) -> None:
    foreign.refusal = Response(b'{"message":"Malformed input request"}', 400)
    where = deployment("bedrock", foreign.url, upstream_model=TITAN, options=AWS)

    with pytest.raises(RefusedInput, match="Malformed"):
        embed(loop, where, secret=None)


def test_ollama_is_asked_once(loop: asyncio.Runner, foreign: ForeignProvider) -> None:
    answer = embed(loop, deployment("ollama", foreign.url))

    assert list(answer.vectors) == [vector_of(text, DIMS) for text in TEXTS]
    assert len(foreign.requests) == 1


def test_sagemaker_makes_one_attempt_through_boto3(
    loop: asyncio.Runner, foreign: ForeignProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", foreign.url)
    foreign.refusal = Response(b'{"message":"busy"}', 500)
    where = deployment("sagemaker", None, upstream_model="endpoint", options=AWS)

    with pytest.raises(ProviderUnavailable):
        embed(loop, where, secret=None)

    assert len(foreign.requests) == 1


def test_an_unknown_provider_is_about_the_model(loop: asyncio.Runner) -> None:
    with pytest.raises(RefusedInput):
        embed(loop, deployment("never-heard-of", "http://127.0.0.1:1"))


def test_the_import_does_not_block_the_loop_and_comes_with_the_first_call() -> None:
    code = """
import asyncio, sys, time
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.adapters import build
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.port import ProviderCall

async def main():
    where = Deployment(id="d", provider="cohere", upstream_model="m", adapter=Adapter.LITELLM,
                       caps=Caps(max_items=1, max_item_tokens=1), api_base="http://127.0.0.1:1")
    provider = build(where, HttpOptions())
    assert "litellm" not in sys.modules
    work = asyncio.ensure_future(provider.embed(ProviderCall(model="m", inputs=["x"], secret="s")))
    longest, before = 0.0, time.monotonic()
    while not work.done():
        await asyncio.sleep(0.01)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    assert "litellm" in sys.modules
    print(type(work.exception()).__name__, longest)
    await provider.close()

asyncio.run(main())
"""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    took_s = time.monotonic() - started

    kind, longest_s = done.stdout.split()
    assert kind == "ProviderUnavailable"
    assert float(longest_s) < took_s / 2
