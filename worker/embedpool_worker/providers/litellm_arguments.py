"""The typed arguments of one call to LiteLLM; a caller's fields end in the JSON body only. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

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
        *("watsonx_token", "azure_ad_token", "azure_scope"),
        *("tenant_id", "client_id", "client_secret"),
    }
)
"""What of `Deployment.options` LiteLLM is told; all of it comes from the operator's config."""

_OWN_CREDENTIALS: Final = frozenset(
    {"bedrock", "sagemaker", "vertex_ai", "oci", "watsonx", "azure_ai"}
)
"""Providers that may need no key of ours: they sign with what the host or the options hold."""

_SIGN_IN: Final = frozenset({"azure"})
"""Providers that come here without a key only where the options hold another way in."""

_NO_KEY: Final = "no-key"
_HF_ROUTER: Final = "https://router.huggingface.co/hf-inference/models"
_COHERE_ENDINGS: Final = {"": "/v2/embed", "/v1": "/embed", "/v2": "/embed"}
_MEDIA: Final = ("data:", "gs://", "files/", "https://generativelanguage.googleapis.com/")

_KIND_OF_PARAM: Final[Mapping[str, tuple[type, ...]]] = {
    "input_type": (str,),
    "normalize": (bool,),
    "task": (str,),
    "task_type": (str,),
    "title": (str,),
    "truncate": (str, bool),
    "truncation": (bool,),
}
"""What the values of known parameters are; which ones it takes the provider says itself."""
_KNOWS_FLOAT: Final = ("cohere.", "titan-embed-text-v2")
"""Of Bedrock's models; LiteLLM refuses to send the others any number format."""
_EMBEDS_IN_CONTEXT: Final = "voyage-context"


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
        "encoding_format": _number_format(deployment, call, traits),
        "api_key": _key(deployment, call),
        "api_base": _api_base(deployment, call),
        "api_version": deployment.api_version,
        **{k: v for k, v in deployment.options.items() if k in OPERATOR_OPTIONS},
    }
    if token := given.pop("watsonx_token", None) or given.pop("token", None):
        # As an argument of its own LiteLLM forgets it and signs in with the key.
        given["watsonx_credentials"] = {"token": token, "apikey": given["api_key"]}
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
    _refuse_params(deployment, call, traits)
    params = {**traits.default_params, **call.params}
    if deployment.provider == "bedrock" and "cohere" not in _model(deployment, call):
        params.pop("input_type", None)  # Titan and Nova have none
    kind = params.pop("input_type", None)
    if kind is not None:
        params.setdefault(traits.kind_param, traits.kinds.get(kind, kind))
    if deployment.provider == "huggingface":
        # Otherwise LiteLLM looks the task up on the hub, and takes similarities for embeddings.
        params["input_type"] = "feature-extraction"
    return params


def _refuse_params(deployment: Deployment, call: ProviderCall, traits: Traits) -> None:
    unknown = sorted(set(call.params) - set(traits.params))
    if unknown and not traits.merges_body:
        named = ", ".join(unknown)
        raise RefusedInput(f"{deployment.provider} does not know: {named}", param=unknown[0])
    if owned := OWNED_FIELDS & set(call.params):
        raise RefusedInput("a field of ours among the parameters", param=min(owned))
    for name, kinds in _KIND_OF_PARAM.items():
        if not isinstance(call.params.get(name), (*kinds, type(None))):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise RefusedInput(f"{name} must be a {wanted}", param=name)


def _number_format(deployment: Deployment, call: ProviderCall, traits: Traits) -> str | None:
    model = _model(deployment, call)
    if deployment.provider == "bedrock" and not any(part in model for part in _KNOWS_FLOAT):
        return None
    return traits.number_format


def _refuse_twisted(deployment: Deployment, call: ProviderCall, traits: Traits) -> None:
    names = (call.model, deployment.upstream_model)
    address = "https" if deployment.provider == "huggingface" else "://"
    if any(address in name.lower() for name in names):
        # LiteLLM would call it as an address, with the provider's token.
        raise RefusedInput("a model's name is not an address", param="model")
    if any(name.startswith(_EMBEDS_IN_CONTEXT) for name in names):
        # Other callers' texts would be its neighbours.
        raise RefusedInput(f"{names[0]} embeds each text in its context", param="model")
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
    base = deployment.api_base
    if deployment.provider == "huggingface" and base is None:
        model = call.model or deployment.upstream_model
        return f"{_HF_ROUTER}/{model}/pipeline/feature-extraction"
    if deployment.provider == "cohere" and base is not None:
        # LiteLLM takes it for the whole address.
        ending = _COHERE_ENDINGS.get(urlsplit(base).path.rstrip("/"), "")
        return base.rstrip("/") + ending if ending else base
    return base


def _key(deployment: Deployment, call: ProviderCall) -> str | None:
    if call.secret is None and deployment.provider not in _OWN_CREDENTIALS | _SIGN_IN:
        # Left out, LiteLLM would look in the environment and send what it finds to any api_base.
        return _NO_KEY
    return key_sent(call)
