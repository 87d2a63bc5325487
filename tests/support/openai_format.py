"""The OpenAI and Azure OpenAI embeddings API, as a provider speaks it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from support.wire_formats import Ask, Entry, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.vectors import Input

_AZURE_PATH: Final = re.compile(r"/openai/deployments/(.+)/embeddings")
_KINDS: Final = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "model_not_allowed"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


class OpenAIFormat:
    """`/v1/embeddings`, `/embeddings` and Azure's path with the model in it."""

    def ask_from(self, path: str, body: bytes) -> Ask:
        """Read a request; raises `Refused`."""
        fields = _object_from(body)
        items = _items_from(fields.pop("input", None))
        azure = _AZURE_PATH.fullmatch(path)
        model = azure[1] if azure else fields.get("model")
        if not isinstance(model, str) or not model:
            raise Refused(400, "you must provide a model parameter", "model")
        encoding = fields.get("encoding_format", "float")
        if encoding not in {"float", "base64"}:
            raise Refused(400, f"'{encoding}' is not one of ['float', 'base64']", "encoding_format")
        return Ask(model, items, _dims_from(fields), encoding == "base64", fields)

    def answer(self, ask: Ask, entries: Sequence[Entry], tokens: int | None) -> bytes:
        """Write an answer; without `tokens`, one that reports no usage."""
        usage = (
            b""
            if tokens is None
            else b',"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
        )
        return b'{"object":"list","data":[%b],"model":%b%b}' % (
            b",".join([_written(entry) for entry in entries]),
            orjson.dumps(ask.model),
            usage,
        )

    def error(self, status: int, message: str, param: str | None) -> bytes:
        """Write an error."""
        kind, code = _KINDS.get(status, ("server_error", None))
        error = {"message": message, "type": kind, "param": param, "code": code}
        return orjson.dumps({"error": error})


def _written(entry: Entry) -> bytes:
    if entry.index is None:
        return b'{"object":"embedding","embedding":%b}' % entry.embedding
    return b'{"object":"embedding","index":%d,"embedding":%b}' % (entry.index, entry.embedding)


def _object_from(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"We could not parse the JSON body of your request. ({error})") from None
    if not isinstance(fields, dict):
        raise Refused(400, "The body of your request must be a JSON object.")
    return fields


def _dims_from(fields: dict[str, Any]) -> int | None:
    dims = fields.get("dimensions")
    if dims is None or (isinstance(dims, int) and not isinstance(dims, bool) and dims > 0):
        return dims
    raise Refused(400, f"{dims!r} is not a positive integer", "dimensions")


def _items_from(given: object) -> list[Input]:
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise Refused(400, "'$.input' is invalid.", "input")
    if _are_ids(given):
        return [given]
    if all(isinstance(one, str) for one in given) and all(given):
        return given
    if all(isinstance(one, list) and one and _are_ids(one) for one in given):
        return given
    raise Refused(400, "'$.input' is invalid.", "input")


def _are_ids(values: list[Any]) -> bool:
    return all(type(one) is int for one in values)
