from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedpool_shared.errors import RefusedInput
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.limits import TRAITS, traits_for
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
    said = written("cohere")

    assert (said["max_retries"], said["num_retries"], said["caching"]) == (0, 0, False)


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


def test_cohere_always_gets_an_input_type() -> None:
    assert written("cohere")["input_type"] == "search_document"


def test_titan_gets_none() -> None:
    assert "input_type" not in written("bedrock", "amazon.titan-embed-text-v2:0")


def test_huggingface_is_always_asked_for_features_at_an_address_of_ours() -> None:
    said = written("huggingface", "sentence-transformers/all-MiniLM-L6-v2")

    assert said["input_type"] == "feature-extraction"
    assert said["model"] == "huggingface/all-MiniLM-L6-v2"
    assert said["api_base"].endswith(
        "/sentence-transformers/all-MiniLM-L6-v2/pipeline/feature-extraction"
    )


def test_parameters_go_into_the_body_where_it_is_merged() -> None:
    said = written("mistral", params={"output_dtype": "x", "metadata": {"a": 1}})

    assert said["extra_body"] == {"output_dtype": "x", "metadata": {"a": 1}}
    assert "output_dtype" not in said


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
    said = written(
        "bedrock", deployment={"options": {"aws_region_name": "eu-west-1", "callbacks": "x"}}
    )

    assert said["aws_region_name"] == "eu-west-1"
    assert "callbacks" not in said


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


OURS = {
    *("model", "input", "timeout", "max_retries", "num_retries", "caching", "encoding_format"),
    *("api_key", "api_base", "api_version", "dimensions", "allowed_openai_params", "extra_body"),
}


@pytest.mark.parametrize("provider", [*TRAITS, "never-heard-of"])
@given(
    params=st.dictionaries(
        st.text(max_size=8)
        | st.sampled_from(["api_base", "client", "extra_headers", "input_type", "task_type"]),
        st.text(max_size=8) | st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        max_size=3,
    )
)
@settings(max_examples=25)
def test_whatever_a_caller_writes_the_arguments_are_a_closed_set(
    provider: str, params: dict[str, Any]
) -> None:
    try:
        given_arguments = written(provider, params=params)
    except RefusedInput:
        return

    traits = traits_for(provider)
    own_words = {"input_type", traits.kind_param, traits.dimensions_param, *traits.params}
    assert set(given_arguments) <= OURS | own_words
    assert set(given_arguments.get("extra_body", {})) <= {*params, *own_words}


@pytest.mark.parametrize(
    ("provider", "name", "said", "sent"),
    [
        ("cohere", "input_type", "passage", "search_document"),
        ("voyage", "input_type", "passage", "document"),
        ("nvidia_nim", "input_type", "document", "passage"),
        ("gemini", "task_type", "clustering", "CLUSTERING"),
        ("vertex_ai", "task_type", "search_document", "RETRIEVAL_DOCUMENT"),
        ("vertex_ai", "task_type", "FACT_VERIFICATION", "FACT_VERIFICATION"),
        ("jina_ai", "task", "document", "retrieval.passage"),
        ("oci", "input_type", "document", "search_document"),
    ],
)
def test_what_vectors_are_for_is_said_under_the_providers_own_name(
    provider: str, name: str, said: str, sent: str
) -> None:
    given_arguments = written(provider, params={"input_type": said})

    assert given_arguments[name] == sent
    assert name == "input_type" or "input_type" not in given_arguments


def test_a_providers_own_word_wins_over_everybodys() -> None:
    params = {"input_type": "query", "task_type": "CLUSTERING"}

    assert written("gemini", params=params)["task_type"] == "CLUSTERING"


@pytest.mark.parametrize(
    ("model", "number_format"),
    [
        ("amazon.titan-embed-text-v1", None),
        ("amazon.titan-embed-text-v2:0", "float"),
        ("cohere.embed-english-v3", "float"),
        ("amazon.nova-2-multimodal-embeddings-v1:0", None),
    ],
)
def test_bedrocks_models_are_told_a_number_format_only_where_they_know_one(
    model: str, number_format: str | None
) -> None:
    assert written("bedrock", model).get("encoding_format") == number_format
