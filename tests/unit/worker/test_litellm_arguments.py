from __future__ import annotations

from typing import Any

import pytest

from embedpool_shared.errors import RefusedInput
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.limits import traits_for
from embedpool_worker.providers.litellm_arguments import arguments
from embedpool_worker.providers.port import ProviderCall


def written(
    provider: str,
    model: str = "m",
    *,
    deployment: dict[str, Any] | None = None,
    **call: Any,
) -> dict[str, Any]:
    where = Deployment(
        id="d",
        provider=provider,
        upstream_model=model,
        adapter=Adapter.LITELLM,
        caps=Caps(max_items=8, max_item_tokens=8_192),
        **(deployment or {}),
    )
    asked = ProviderCall(**({"model": model, "inputs": ["x"], "secret": "s-1"} | call))
    return arguments(where, asked, traits_for(provider))


def test_retries_and_caches_are_always_off() -> None:
    given = written("cohere")

    assert (given["max_retries"], given["num_retries"], given["caching"]) == (0, 0, False)


@pytest.mark.parametrize(
    ("provider", "model", "number_format"),
    [
        ("cohere", "embed-v4.0", "float"),
        ("bedrock", "amazon.titan-embed-text-v2:0", "float"),
        ("mistral", "mistral-embed", "float"),
        ("voyage", "voyage-3.5", None),
        ("gemini", "gemini-embedding-001", None),
        ("vertex_ai", "text-embedding-005", None),
        ("huggingface", "BAAI/bge-m3", None),
        ("ollama", "nomic-embed-text", None),
    ],
)
def test_the_number_format_is_the_providers(
    provider: str, model: str, number_format: str | None
) -> None:
    assert written(provider, model).get("encoding_format") == number_format


@pytest.mark.parametrize(
    ("provider", "said", "sent"),
    [
        ("cohere", "query", "search_query"),
        ("cohere", "classification", "classification"),
        ("voyage", "search_document", "document"),
        ("gemini", "search_query", "RETRIEVAL_QUERY"),
    ],
)
def test_an_input_type_is_said_in_the_providers_words(provider: str, said: str, sent: str) -> None:
    assert written(provider, params={"input_type": said})["input_type"] == sent


def test_cohere_always_gets_an_input_type() -> None:
    assert written("cohere")["input_type"] == "search_document"


def test_titan_gets_none() -> None:
    assert "input_type" not in written("bedrock", "amazon.titan-embed-text-v2:0")


def test_huggingface_is_always_asked_for_features_at_an_address_of_ours() -> None:
    given = written("huggingface", "sentence-transformers/all-MiniLM-L6-v2")

    assert given["input_type"] == "feature-extraction"
    assert given["model"] == "huggingface/all-MiniLM-L6-v2"
    assert given["api_base"].endswith(
        "/sentence-transformers/all-MiniLM-L6-v2/pipeline/feature-extraction"
    )


def test_parameters_go_into_the_body_where_it_is_merged() -> None:
    given = written("mistral", params={"output_dtype": "x", "metadata": {"a": 1}})

    assert given["extra_body"] == {"output_dtype": "x", "metadata": {"a": 1}}
    assert "output_dtype" not in given


@pytest.mark.parametrize("name", ["api_base", "api_key", "timeout", "aws_role_name", "unheard"])
def test_an_unknown_parameter_is_refused_by_name_where_it_is_not(name: str) -> None:
    with pytest.raises(RefusedInput, match=name):
        written("cohere", params={name: "http://evil"})


@pytest.mark.parametrize("name", ["model", "input", "encoding_format", "dimensions"])
def test_a_field_of_ours_cannot_be_overwritten(name: str) -> None:
    with pytest.raises(RefusedInput):
        written("mistral", params={name: "evil"})


def test_dimensions_are_called_what_the_provider_calls_them() -> None:
    assert written("mistral", dimensions=64)["extra_body"] == {"output_dimension": 64}
    assert written("cohere", dimensions=256)["dimensions"] == 256


def test_only_known_options_of_the_operator_are_told() -> None:
    given = written(
        "bedrock", deployment={"options": {"aws_region_name": "eu-west-1", "callbacks": "x"}}
    )

    assert given["aws_region_name"] == "eu-west-1"
    assert "callbacks" not in given


def test_without_a_key_none_is_taken_from_the_environment() -> None:
    assert written("cohere", secret=None)["api_key"] == "no-key"
    assert "api_key" not in written("bedrock", secret=None)


def test_a_model_that_is_an_address_is_refused() -> None:
    with pytest.raises(RefusedInput):
        written("huggingface", "https://evil.example/x")


def test_token_arrays_are_refused() -> None:
    with pytest.raises(RefusedInput):
        written("cohere", inputs=[[1, 2]])


@pytest.mark.parametrize("provider", ["gemini", "vertex_ai", "cohere", "jina_ai"])
@pytest.mark.parametrize("text", ["files/abc", "data:image/png;base64,AAAA", "gs://b/x.png"])
def test_a_text_that_would_be_fetched_or_shown_is_refused_with_its_place(
    provider: str, text: str
) -> None:
    with pytest.raises(RefusedInput) as caught:
        written(provider, inputs=["fine", text])

    assert caught.value.param == "input[1]"
