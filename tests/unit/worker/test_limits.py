from __future__ import annotations

import pytest

from embedpool_shared.catalog import ANY_DIMENSIONS
from embedpool_worker.deployments import Adapter
from embedpool_worker.providers.limits import (
    CL100K,
    LIMITS,
    TRAITS,
    Dimensions,
    caps_for,
    limits_for,
    traits_for,
)

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("provider", "model", "items", "item_tokens", "call_tokens", "call_bytes"),
    [
        ("openai", "text-embedding-3-small", 2_048, 8_191, 300_000, None),
        ("openai", "text-embedding-ada-002", 2_048, 8_191, 300_000, None),
        ("azure", "our-deployment", 2_048, 8_191, 300_000, None),
        ("cohere", "embed-english-v3.0", 96, 512, None, None),
        ("cohere", "embed-v4.0", 96, 128_000, None, None),
        ("bedrock", "amazon.titan-embed-text-v1", 1, 8_192, None, None),
        ("bedrock", "amazon.titan-embed-text-v2:0", 1, 8_192, None, None),
        ("bedrock", "cohere.embed-english-v3", 96, 512, None, None),
        ("vertex_ai", "text-embedding-005", 250, 2_048, 18_000, None),
        ("vertex_ai", "gemini-embedding-001", 1, 2_048, 18_000, None),
        ("gemini", "gemini-embedding-001", 100, 2_048, None, 4 * MIB),
        ("gemini", "gemini-embedding-2", 100, 8_192, None, 4 * MIB),
        ("voyage", "voyage-3-large", 1_000, 32_000, 108_000, None),
        ("voyage", "voyage-code-3", 1_000, 32_000, 108_000, None),
        ("voyage", "voyage-3.5", 1_000, 32_000, 288_000, None),
        ("voyage", "voyage-3.5-lite", 1_000, 32_000, 900_000, None),
        ("voyage", "voyage-law-2", 1_000, 16_000, 108_000, None),
        ("mistral", "mistral-embed", 128, 8_192, 14_745, None),
        ("jina_ai", "jina-embeddings-v3", 2_048, 8_192, None, None),
        ("dashscope", "text-embedding-v4", 10, 8_192, None, None),
        ("siliconflow", "BAAI/bge-m3", 64, 8_192, None, None),
        ("oci", "cohere.embed-english-v3.0", 96, 512, None, None),
        ("oci", "cohere.embed-v4.0", 96, 128_000, None, None),
        ("tei", "BAAI/bge-m3", 32, 8_192, None, None),
        ("hosted_vllm", "BAAI/bge-m3", 2_048, 8_192, None, None),
        ("infinity", "BAAI/bge-m3", 2_048, 8_192, None, None),
        ("ollama", "nomic-embed-text", 512, 8_192, None, None),
        ("lm_studio", "nomic-embed-text", 512, 8_192, None, None),
        ("sagemaker", "endpoint", 32, 8_192, None, None),
        ("huggingface", "BAAI/bge-m3", 32, 8_192, None, None),
        ("openai", "somebody-elses-model", 512, 8_192, 90_000, None),
        ("never-heard-of", "x", 512, 8_192, 90_000, None),
    ],
)
def test_a_call_is_packed_to_what_the_provider_takes(
    provider: str,
    model: str,
    items: int,
    item_tokens: int,
    call_tokens: int | None,
    call_bytes: int | None,
) -> None:
    caps = caps_for(provider, model)

    assert (caps.max_items, caps.max_item_tokens) == (items, item_tokens)
    assert (caps.max_call_tokens, caps.max_call_bytes) == (call_tokens, call_bytes)


@pytest.mark.parametrize(
    ("version", "items"),
    [("2023-05-15", 16), ("2023-07-01-preview", 2_048), ("2024-10-21", 2_048), (None, 2_048)],
)
def test_an_old_azure_version_takes_sixteen(version: str | None, items: int) -> None:
    assert caps_for("azure", "x", api_version=version).max_items == items


@pytest.mark.parametrize(
    ("provider", "model", "dimensions"),
    [
        ("openai", "text-embedding-3-large", ANY_DIMENSIONS),
        ("openai", "text-embedding-ada-002", ()),
        ("cohere", "embed-english-v3.0", ()),
        ("bedrock", "amazon.titan-embed-text-v2:0", (256, 512, 1_024)),
        ("bedrock", "amazon.titan-embed-text-v1", ()),
        ("mistral", "mistral-embed", ()),
        ("mistral", "codestral-embed", ANY_DIMENSIONS),
        ("jina_ai", "jina-embeddings-v2-base-en", ()),
        ("jina_ai", "jina-embeddings-v3", ANY_DIMENSIONS),
        ("siliconflow", "BAAI/bge-m3", ()),
        ("ollama", "nomic-embed-text", ()),
        ("local", "wordllama", (128, 64)),
    ],
)
def test_sizes_are_offered_where_the_model_has_them(
    provider: str, model: str, dimensions: Dimensions
) -> None:
    assert limits_for(provider, model).dimensions == dimensions


def test_tokens_are_counted_exactly_for_openais_models_only() -> None:
    exact = {row.provider for row in LIMITS if row.encoding}

    assert exact == {"openai", "azure"}
    assert limits_for("openai", "text-embedding-3-small").encoding == CL100K


def test_raw_ids_go_only_to_those_who_share_the_vocabulary() -> None:
    sharing = {name for name, traits in TRAITS.items() if traits.takes_token_ids}

    assert sharing == {"openai", "azure"}
    assert traits_for("openai").takes_token_ids
    assert not traits_for("openai", api_base="http://vllm:8000/v1").takes_token_ids
    assert traits_for("openai", api_base="https://api.openai.com/v1/").takes_token_ids


def test_no_base64_and_no_float_where_they_mean_something_else() -> None:
    assert traits_for("voyage").number_format is None
    assert traits_for("gemini").number_format is None
    assert traits_for("bedrock").number_format == "float"


def test_every_provider_with_limits_has_traits_and_the_wire_merges_bodies() -> None:
    assert {row.provider for row in LIMITS} - {"*"} <= TRAITS.keys()
    assert all(
        traits.merges_body for traits in TRAITS.values() if traits.adapter is Adapter.OPENAI_WIRE
    )


def test_a_row_is_never_hidden_by_one_before_it() -> None:
    seen: set[str] = set()
    for row in LIMITS:
        assert row.provider not in seen, f"a row of {row.provider} comes after its last one"
        if row.model == "*":
            seen.add(row.provider)


def test_an_unknown_provider_is_litellms() -> None:
    assert traits_for("never-heard-of").adapter is Adapter.LITELLM
