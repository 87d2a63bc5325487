"""The part of the OpenAPI document that FastAPI cannot see: the embeddings endpoint. Pure."""

from __future__ import annotations

from typing import Any, Final

from embedpool_api.schemas import EXAMPLES, REF, SCHEMAS
from embedpool_shared.embedding.request import MAX_BODY_BYTES

ALTERNATES: Final = (
    "/embeddings",
    "/openai/v1/embeddings",
    "/engines/{model}/embeddings",
    "/openai/deployments/{model}/embeddings",
)
_SENTENCES: Final = {
    400: "A field, a shape or a value is wrong; or the provider refuses this input.",
    401: "No key, or an unknown, expired or blocked one.",
    403: "This key may not use this model.",
    404: "Nobody serves a model of that name.",
    405: "Embeddings are asked for by POST.",
    413: f"The body is larger than {MAX_BODY_BYTES} bytes.",
    415: "The body is not JSON, or it is encoded.",
    429: "Too fast for a limit of the key, its team or its user, or a budget is used up.",
    500: "Our bug; the message holds the request's id.",
    502: "The provider failed after all tries.",
    503: "Queue full, no worker, Redis away, or no usable provider key; see Retry-After.",
    504: "The deadline passed.",
}


def document(generated: dict[str, Any]) -> dict[str, Any]:
    """Complete FastAPI's document: the endpoint, its schemas, errors and ways to sign in."""
    paths = generated.setdefault("paths", {})
    for operation in (one for path in paths.values() for one in path.values()):
        operation.get("responses", {}).pop("422", None)  # ours answer 400 in our envelope
        operation["responses"]["default"] = _error("An error, always in this envelope.")
    endpoint = {"/v1/embeddings": {"post": _operation("createEmbedding")}}
    endpoint |= {path: _alternate(path) for path in ALTERNATES}
    generated["paths"] = endpoint | paths
    components = generated.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= SCHEMAS
    components["securitySchemes"] = _SECURITY
    generated["security"] = [{"bearer": []}, {"apiKey": []}, {}]
    return generated


def _operation(operation_id: str) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "tags": ["embeddings"],
        "summary": "Turn texts into vectors",
        "description": "Inputs of many callers share provider calls; every caller gets exactly "
        "the vectors of its own inputs, in their order.",
        "parameters": [_header(name, text) for name, text in _REQUEST_HEADERS.items()],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"{REF}EmbeddingRequest"},
                    "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
                }
            },
        },
        "responses": {"200": _answer()}
        | {str(status): _error(text) for status, text in sorted(_SENTENCES.items())},
    }


def _alternate(path: str) -> dict[str, Any]:
    operation_id = "createEmbeddingAt" + "".join(
        word.strip("{}").capitalize() for word in path.split("/")
    )
    operation = _operation(operation_id)
    operation["summary"] = "The same as POST /v1/embeddings"
    if "{model}" in path:
        operation["parameters"] = [_PATH_MODEL, *operation["parameters"]]
    return {"post": operation}


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


def _answer() -> dict[str, Any]:
    return {
        "description": "One vector per input, in the order of the inputs.",
        "headers": {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _RESPONSE_HEADERS.items()
        },
        "content": {"application/json": {"schema": {"$ref": f"{REF}EmbeddingResponse"}}},
    }


def _error(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "headers": {
            "x-request-id": {"schema": {"type": "string"}},
            "retry-after": {"description": "Seconds.", "schema": {"type": "integer"}},
            "retry-after-ms": {"schema": {"type": "integer"}},
            "x-should-retry": {"schema": {"type": "string", "enum": ["true", "false"]}},
        },
        "content": {"application/json": {"schema": {"$ref": f"{REF}Error"}}},
    }


_PATH_MODEL: Final = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Wins over the body's model; may contain slashes.",
    "schema": {"type": "string"},
}
_REQUEST_HEADERS: Final = {
    "x-request-id": "Echoed when it is at most 128 letters, digits, dots, dashes, underscores.",
    "x-stainless-read-timeout": "Seconds after which the client hangs up; the answer comes before.",
    "x-litellm-timeout": "The same, as LiteLLM's clients say it.",
    "x-embedpool-class": "`interactive` or `bulk`; without it, what the key's default_class says.",
    "cache-control": "`no-cache` asks the provider anew; `no-store` neither reads nor keeps.",
    "x-litellm-end-user-id": "The end user, for spend; the body's `user` wins.",
    "x-litellm-customer-id": "The same.",
    "x-litellm-user-id": "The same.",
    "x-litellm-metadata": "A JSON object kept with the usage record; the body's `metadata` wins.",
    "x-litellm-spend-logs-metadata": "The same.",
    "x-litellm-tags": "Tags for spend, separated by commas.",
    "x-embedpool-debug": "`1` adds the x-embedpool-… headers about the provider call.",
}
_RESPONSE_HEADERS: Final = {
    "x-request-id": "Of this request.",
    "openai-processing-ms": "Time spent here.",
    "x-embedpool-cost-usd": "What this request cost.",
    "x-litellm-call-id": "The request's id again.",
    "x-litellm-model-group": "The model that answered, by its name here.",
    "x-litellm-response-cost": "The cost again.",
    "x-litellm-key-spend": "What the key had spent when it was last looked up.",
    "x-ratelimit-limit-requests": "With a limit: requests a minute, of whoever has least left.",
    "x-ratelimit-remaining-requests": "… how many are left now.",
    "x-ratelimit-reset-requests": "… when all are there again, like `1s` or `6m0s`.",
    "x-ratelimit-limit-tokens": "With a limit: tokens a minute.",
    "x-ratelimit-remaining-tokens": "… how many are left now.",
    "x-ratelimit-reset-tokens": "… when all are there again.",
    "x-embedpool-queue-ms": "With debug: time in the queue.",
    "x-embedpool-provider-ms": "With debug: time of the provider call.",
    "x-embedpool-batch-items": "With debug: inputs in that call.",
    "x-embedpool-batch-requests": "With debug: callers' requests in that call.",
    "x-embedpool-provider": "With debug: the provider.",
    "x-embedpool-deployment": "With debug: the deployment.",
    "x-embedpool-tries": "With debug: calls made.",
    "x-embedpool-cache": "With debug: hit, miss or partial.",
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
}
