"""Reads the body of an embeddings request, or says which field is wrong. Pure."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import orjson

from embedpool_shared.embedding import params
from embedpool_shared.embedding.inputs import inputs_of
from embedpool_shared.errors import BadRequest, NotJson
from embedpool_shared.jobs import Input

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_NAME_LETTERS: Final = 512
_COMMON: Final = frozenset({"model", "input", "encoding_format"})
_OWN: Final = _COMMON | {"dimensions", "user", "metadata", "extra_body"}
_CONSUMED: Final = frozenset(
    {"cache", "tags", "num_retries", "timeout", "fallbacks", "mock_response"}
)
"""LiteLLM's own fields: heard or ignored here, never forwarded; so is every `litellm_…`."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one caller asks for; nothing in it has been compared with a model yet."""

    model: str
    inputs: list[Input]  # all texts or all token arrays
    is_base64: bool = False
    dimensions: int | None = None
    user: str | None = None
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    params: dict[str, Any] = {}  # for the provider: checked, but not yet against the model
    no_cache: bool = False
    no_store: bool = False
    timeout_s: float | None = None  # LiteLLM's `timeout`: a hint like the headers


def parse(
    body: bytes,
    *,
    content_type: str | None = None,
    path_model: str | None = None,
    default_model: str | None = None,
) -> EmbeddingRequest:
    """Read `body`; the path's model wins over the body's, the default is the last resort.

    Raises `BadRequest` naming the field, and `NotJson` for what neither is nor claims to be JSON.
    """
    return requested(_fields(body, content_type), path_model, default_model)


def requested(
    fields: dict[str, Any], path_model: str | None, default_model: str | None
) -> EmbeddingRequest:
    """Read the fields of a body that is decoded already, as `parse` does; raises `BadRequest`."""
    model = _model(fields.get("model") if path_model is None else path_model, default_model)
    if "input" not in fields:
        raise BadRequest("`input` is missing: the text to embed", param="input")
    inputs = inputs_of(fields["input"])
    is_base64 = _is_base64(fields.get("encoding_format"))
    if fields.keys() <= _COMMON:
        return EmbeddingRequest(model=model, inputs=inputs, is_base64=is_base64)
    cache = _typed(fields, "cache", dict, "an object") or {}
    return EmbeddingRequest(
        model=model,
        inputs=inputs,
        is_base64=is_base64,
        dimensions=_dimensions(fields.get("dimensions")),
        user=_user(fields),
        metadata=_metadata(fields),
        tags=_tags(fields),
        params=_params(fields),
        no_cache=cache.get("no-cache") is True,
        no_store=cache.get("no-store") is True,
        timeout_s=_timeout_s(fields.get("timeout")),
    )


def _fields(body: bytes, content_type: str | None) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        if content_type is None or "json" not in content_type.lower():
            raise NotJson("The body is not JSON; send it as application/json") from None
        where = f"line {problem.lineno}, column {problem.colno}"
        raise BadRequest(f"The body is not valid JSON: {problem.msg} at {where}") from None
    if type(fields) is not dict:
        raise BadRequest("The body must be a JSON object with `model` and `input`")
    return fields


def _model(named: Any, default_model: str | None) -> str:
    model = default_model if named is None or named == "" else named
    if model is None:
        raise BadRequest("`model` is missing: the name of an embedding model", param="model")
    if type(model) is not str:
        raise BadRequest("`model` must be a string", param="model")
    if len(model) > MAX_NAME_LETTERS or not model.isprintable():
        raise BadRequest(
            f"`model` must be at most {MAX_NAME_LETTERS} printable letters", param="model"
        )
    return model


def _is_base64(encoding_format: Any) -> bool:
    if encoding_format is None or encoding_format == "float":
        return False
    if encoding_format == "base64":
        return True
    raise BadRequest("`encoding_format` must be 'float' or 'base64'", param="encoding_format")


def _dimensions(dimensions: Any) -> int | None:
    if dimensions is None:
        return None
    if type(dimensions) is not int or dimensions < 1:
        raise BadRequest("`dimensions` must be an integer of at least 1", param="dimensions")
    return dimensions


def _typed(fields: dict[str, Any], name: str, kind: type, wanted: str) -> Any:
    value = fields.get(name)
    if value is not None and type(value) is not kind:
        raise BadRequest(f"`{name}` must be {wanted}", param=name)
    return value


def _user(fields: dict[str, Any]) -> str | None:
    user: str | None = _typed(fields, "user", str, "a string")
    params.check_literal(user, "user")
    return user


def _metadata(fields: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = _typed(fields, "metadata", dict, "an object") or {}
    params.check_literal(metadata, "metadata")
    if len(params.canonical(metadata).encode()) > params.MAX_BYTES:
        raise BadRequest(
            f"`metadata` is larger than {params.MAX_BYTES} bytes of JSON", param="metadata"
        )
    return metadata


def _tags(fields: dict[str, Any]) -> tuple[str, ...]:
    tags = _typed(fields, "tags", list, "an array of strings") or []
    if len(tags) > params.MAX_TAGS or not all(type(tag) is str for tag in tags):
        raise BadRequest(f"`tags` must be at most {params.MAX_TAGS} strings", param="tags")
    params.check_literal(tags, "tags")
    if len(orjson.dumps(tags)) > params.MAX_BYTES:
        raise BadRequest(f"`tags` are larger than {params.MAX_BYTES} bytes of JSON", param="tags")
    return tuple(tags)


def _params(fields: dict[str, Any]) -> dict[str, Any]:
    extra_body = _typed(fields, "extra_body", dict, "an object") or {}
    others = {
        name: value
        for name, value in fields.items()
        if name not in _OWN and name not in _CONSUMED and not name.startswith("litellm_")
    }
    return params.merged(others, extra_body) if others or extra_body else {}


def _timeout_s(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if type(timeout) not in {int, float} or not math.isfinite(timeout) or timeout <= 0:
        raise BadRequest("`timeout` must be a positive number of seconds", param="timeout")
    return float(timeout)
