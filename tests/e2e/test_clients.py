"""The clients people have: the `openai` package and LangChain, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tiktoken
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from e2e.asking import UPSTREAM, asked, right, vectors_in
from e2e.pools import Pool
from embedpool_shared import tokens
from support.fake_provider import FakeProvider

TEXTS = ["first text", "second text", "ein dritter: 短い", "first text"]
LOCAL = "wordllama"
KINDS = {
    "small": UPSTREAM,
    "vllm": UPSTREAM,
    LOCAL: "",
    "cohere": "embed-english-v3.0",
    "wild/text-embedding-ada-002": "text-embedding-ada-002",
    "Embeddings_Please": UPSTREAM,
    "small@openai": UPSTREAM,
}
"""A model of each kind, and what its provider calls it."""
READS_IDS = {"small", "Embeddings_Please", "small@openai"}


@pytest.fixture
def api_base(pool: Pool) -> str:
    return f"{pool.url}/v1"


@pytest.fixture
def sync_openai(api_base: str) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=api_base, api_key="unused", http_client=http) as client:
        yield client


def async_openai(api_base: str) -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(trust_env=False)
    return openai.AsyncOpenAI(base_url=api_base, api_key="unused", http_client=http)


def as_bytes(vectors: list[list[float]]) -> list[bytes]:
    return [np.asarray(vector, "<f4").tobytes() for vector in vectors]


@pytest.fixture
def langchain(
    api_base: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., OpenAIEmbeddings]]:
    # What tiktoken would download otherwise; LiteLLM brings it along.
    found = find_spec("litellm")
    assert found
    assert found.origin
    files = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(files))
    with httpx.Client(trust_env=False) as http:
        yield lambda model, **options: OpenAIEmbeddings(
            model=model,
            openai_api_base=api_base,
            openai_api_key=SecretStr("unused"),
            http_client=http,
            **options,
        )


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_the_openai_client_gets_its_vectors(
    sync_openai: openai.OpenAI, options: dict[str, Any]
) -> None:
    answer = sync_openai.embeddings.create(model="small", input=TEXTS, **options)

    assert as_bytes([item.embedding for item in answer.data]) == right(TEXTS)
    assert [item.index for item in answer.data] == [0, 1, 2, 3]
    assert answer.usage.total_tokens > 0


@pytest.mark.usefixtures("provider")
async def test_many_async_openai_callers_get_each_their_own(api_base: str) -> None:
    async with async_openai(api_base) as client:
        answers = await asyncio.gather(
            *(client.embeddings.create(model="small", input=f"text {n}") for n in range(50))
        )

    found = as_bytes([answer.data[0].embedding for answer in answers])
    assert found == right([f"text {n}" for n in range(50)])


@pytest.mark.usefixtures("provider")
def test_openais_extra_body_reaches_the_provider(
    sync_openai: openai.OpenAI, provider: FakeProvider
) -> None:
    sync_openai.embeddings.create(model="small", input="x", extra_body={"priority": "low"})

    assert provider.calls[0].fields["priority"] == "low"


def test_a_bad_request_is_openais_own_exception(sync_openai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sync_openai.embeddings.create(model="small", input=["fine", ""])

    assert caught.value.param == "input[1]"


def test_an_unknown_model_is_openais_own_exception(sync_openai: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sync_openai.embeddings.create(model="no-such-model", input="x")

    assert caught.value.code == "model_not_found"


def test_the_openai_client_lists_models(sync_openai: openai.OpenAI) -> None:
    assert {"small", "wordllama"} <= {model.id for model in sync_openai.models.list()}


@pytest.mark.usefixtures("provider")
def test_azures_client_names_the_deployment_in_the_path(pool: Pool) -> None:
    http = httpx.Client(trust_env=False)
    with openai.AzureOpenAI(
        azure_endpoint=pool.url, api_key="unused", api_version="2024-10-21", http_client=http
    ) as client:
        answer = client.embeddings.create(model="small", input="by azure")

    assert as_bytes([answer.data[0].embedding]) == right(["by azure"])


def test_langchains_token_arrays_reach_openai_as_they_are(
    langchain: Callable[..., OpenAIEmbeddings], provider: FakeProvider
) -> None:
    found = langchain("small", tiktoken_model_name=UPSTREAM).embed_documents(TEXTS)

    encode = tiktoken.get_encoding("cl100k_base").encode
    ids = [encode(text) for text in TEXTS]
    assert as_bytes(found) == right(ids)
    assert {tuple(item) for call in provider.calls for item in call.items} == set(map(tuple, ids))


def test_langchains_token_arrays_reach_everybody_else_as_text(
    langchain: Callable[..., OpenAIEmbeddings], provider: FakeProvider
) -> None:
    found = langchain("vllm").embed_documents(TEXTS)

    assert as_bytes(found) == right(TEXTS)
    assert {item for call in provider.calls for item in call.items} == set(TEXTS)


@pytest.mark.usefixtures("provider")
async def test_langchains_async_side_gets_the_same(
    langchain: Callable[..., OpenAIEmbeddings],
) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        found = await langchain("vllm", http_async_client=http).aembed_documents(TEXTS)

    assert as_bytes(found) == right(TEXTS)


def test_langchain_embeds_with_the_local_model(
    langchain: Callable[..., OpenAIEmbeddings],
) -> None:
    by_ids, by_text = (
        langchain("wordllama", check_embedding_ctx_length=by_ids).embed_query("Hello, world")
        for by_ids in (True, False)
    )

    assert len(by_ids) == 256
    assert by_ids == by_text


def expected(pool: Pool, plain_client: httpx.Client, model: str, *, by_ids: bool) -> list[bytes]:
    """The vectors of `TEXTS`; of the local model those that it has for each text alone."""
    if model == LOCAL:
        bodies = [asked(LOCAL, text) for text in TEXTS]
        answers = [plain_client.post(f"{pool.url}/v1/embeddings", json=body) for body in bodies]
        return [vectors_in(answer.json())[0] for answer in answers]
    if by_ids and model in READS_IDS:
        encode = tiktoken.get_encoding("cl100k_base").encode
        return right([encode(text) for text in TEXTS])
    return right(TEXTS, upstream=KINDS[model])


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("model", KINDS)
async def test_the_openai_package_gets_the_vectors_of_every_kind_of_model(
    pool: Pool,
    plain_client: httpx.Client,
    sync_openai: openai.OpenAI,
    api_base: str,
    model: str,
) -> None:
    async with async_openai(api_base) as client:
        answers = [
            await asyncio.to_thread(sync_openai.embeddings.create, model=model, input=TEXTS),
            await client.embeddings.create(model=model, input=TEXTS),
        ]

    right_ones = await asyncio.to_thread(expected, pool, plain_client, model, by_ids=False)
    for answer in answers:
        assert as_bytes([item.embedding for item in answer.data]) == right_ones


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("model", KINDS)
async def test_langchain_as_it_comes_gets_the_vectors_of_every_kind_of_model(
    pool: Pool,
    plain_client: httpx.Client,
    langchain: Callable[..., OpenAIEmbeddings],
    model: str,
) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        embeddings = langchain(model, http_async_client=http)
        found = [
            await asyncio.to_thread(embeddings.embed_documents, TEXTS),
            await embeddings.aembed_documents(TEXTS),
        ]

    right_ones = await asyncio.to_thread(expected, pool, plain_client, model, by_ids=True)
    assert list(map(as_bytes, found)) == [right_ones, right_ones]


def test_ids_count_as_themselves(sync_openai: openai.OpenAI) -> None:
    ids = [9906, 11, 1917]

    answer = sync_openai.embeddings.create(model="vllm", input=ids)

    assert answer.usage.prompt_tokens == 3
    text = tokens.decode("cl100k_base", ids)
    assert as_bytes([answer.data[0].embedding]) == right([text])
