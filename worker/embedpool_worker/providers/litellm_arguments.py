"""The typed arguments of one call to LiteLLM; a caller's fields end in the JSON body only. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from embedpool_shared.errors import RefusedInput
from embedpool_worker.providers.openai_answer import OWNED_FIELDS
from embedpool_worker.providers.sending import dims_sent, key_sent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedpool_worker.deployments import Deployment
    from embedpool_worker.providers.limits import Traits
    from embedpool_worker.providers.port import ProviderCall

OPERATOR_OPTIONS: Final = frozenset(
    {
        *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_region_name"),
        *("aws_role_name", "aws_session_name", "aws_profile_name", "aws_web_identity_token"),
        *("aws_sts_endpoint", "aws_external_id", "aws_bedrock_runtime_endpoint", "model_id"),
        *("vertex_project", "vertex_location", "vertex_credentials"),
        *("oci_region", "oci_user", "oci_fingerprint", "oci_tenancy", "oci_key", "oci_key_file"),
        *("oci_compartment_id", "project_id", "space_id", "region_name", "token"),
    }
)
"""What of `Deployment.options` LiteLLM is told; all of it comes from the operator's config."""

_OWN_CREDENTIALS: Final = frozenset(
    {"bedrock", "sagemaker", "vertex_ai", "oci", "watsonx", "azure_ai"}
)
"""Providers that may need no key of ours: they sign with what the host or the options hold."""

_NO_KEY: Final = "no-key"
_HF_ROUTER: Final = "https://router.huggingface.co/hf-inference/models"
_MEDIA: Final = ("data:", "gs://", "files/", "https://generativelanguage.googleapis.com/")

_COHERE_TYPES: Final = {
    "query": "search_query",
    "document": "search_document",
    "passage": "search_document",
}
_GOOGLE_TYPES: Final = {
    "query": "RETRIEVAL_QUERY",
    "search_query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "passage": "RETRIEVAL_DOCUMENT",
    "search_document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
_SPELLINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "cohere": _COHERE_TYPES,
    "bedrock": _COHERE_TYPES,
    "oci": _COHERE_TYPES,
    "gemini": _GOOGLE_TYPES,
    "vertex_ai": _GOOGLE_TYPES,
    "voyage": {"search_query": "query", "search_document": "document", "passage": "document"},
    "nvidia_nim": {
        "search_query": "query",
        "search_document": "passage",
        "document": "passage",
    },
}
"""Other providers' words for the same `input_type`."""


def arguments(deployment: Deployment, call: ProviderCall, traits: Traits) -> dict[str, Any]:
    """Write `litellm.aembedding`'s arguments, or raise `RefusedInput` where it would twist them."""
    _refuse_twisted(deployment, call, traits)
    params = _params(deployment, call, traits)
    given: dict[str, Any] = {
        "model": f"{deployment.provider}/{_model(deployment, call)}",
        "input": list(call.inputs),
        "timeout": call.timeout_s,
        "max_retries": 0,
        "num_retries": 0,
        "caching": False,
        "encoding_format": traits.number_format,
        "api_key": _key(deployment, call),
        "api_base": _api_base(deployment, call),
        "api_version": deployment.api_version,
        **{k: v for k, v in deployment.options.items() if k in OPERATOR_OPTIONS},
    }
    if (dims := dims_sent(deployment, call)) is not None:
        _ask_for_dimensions(given, params, dims, traits)
    if traits.merges_body:
        given["extra_body"] = params or None
    else:
        given.update(params)
    return {name: value for name, value in given.items() if value is not None}


def _ask_for_dimensions(
    given: dict[str, Any], params: dict[str, Any], dimensions: int, traits: Traits
) -> None:
    if traits.dimensions_param != "dimensions":
        params[traits.dimensions_param] = dimensions
        return
    given["dimensions"] = dimensions
    # Without it LiteLLM 1.106 answers 500 for names that lack "text-embedding-3".
    given["allowed_openai_params"] = ["dimensions"]


def _params(deployment: Deployment, call: ProviderCall, traits: Traits) -> dict[str, Any]:
    """What goes into the body: known parameters in the provider's words, unknown ones if merged."""
    unknown = sorted(set(call.params) - set(traits.params))
    if unknown and not traits.merges_body:
        named = ", ".join(unknown)
        raise RefusedInput(f"{deployment.provider} does not know: {named}", param=unknown[0])
    if owned := OWNED_FIELDS & set(call.params):
        raise RefusedInput("a field of ours among the parameters", param=min(owned))
    params = {**traits.default_params, **call.params}
    if "cohere" not in deployment.upstream_model and deployment.provider == "bedrock":
        params.pop("input_type", None)  # Titan and Nova have none
    if (kind := params.get("input_type")) is not None:
        params["input_type"] = _SPELLINGS.get(deployment.provider, {}).get(kind, kind)
    if deployment.provider == "huggingface":
        # Otherwise LiteLLM looks the task up on the hub, and takes similarities for embeddings.
        params["input_type"] = "feature-extraction"
    return params


def _refuse_twisted(deployment: Deployment, call: ProviderCall, traits: Traits) -> None:
    if "://" in call.model or "://" in deployment.upstream_model:
        # LiteLLM would call it as an address, with the provider's token.
        raise RefusedInput("a model's name is not an address", param="model")
    if not all(isinstance(one, str) for one in call.inputs):
        raise RefusedInput(f"{deployment.provider} takes texts, not token arrays", param="input")
    if traits.reads_media_in_text:
        _refuse_media(deployment.provider, call.inputs)


def _refuse_media(provider: str, inputs: Sequence[object]) -> None:
    for position, text in enumerate(inputs):
        if isinstance(text, str) and text.startswith(_MEDIA):
            # LiteLLM would fetch it with our key, or send the whole batch as pictures.
            raise RefusedInput(
                f"{provider} would take a text that starts like this for a file or a picture",
                param=f"input[{position}]",
            )


def _model(deployment: Deployment, call: ProviderCall) -> str:
    model = call.model or deployment.upstream_model
    if deployment.provider == "huggingface":
        # With this prefix in the name LiteLLM asks for similarities, whatever the task; the name
        # is in the address already.
        return model.removeprefix("sentence-transformers/")
    return model


def _api_base(deployment: Deployment, call: ProviderCall) -> str | None:
    if deployment.provider == "huggingface" and deployment.api_base is None:
        model = call.model or deployment.upstream_model
        return f"{_HF_ROUTER}/{model}/pipeline/feature-extraction"
    return deployment.api_base


def _key(deployment: Deployment, call: ProviderCall) -> str | None:
    if call.secret is None and deployment.provider not in _OWN_CREDENTIALS:
        # Left out, LiteLLM would look in the environment and send what it finds to any api_base.
        return _NO_KEY
    return key_sent(call)
