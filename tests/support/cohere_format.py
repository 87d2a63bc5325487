"""Cohere's embed API, versions 1 and 2, with float embeddings, as a provider speaks it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from support.wire_formats import Ask, Entry, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence


class CohereFormat:
    """`/v2/embed` and `/v1/embed`; the old one without types answers a bare list."""

    def __init__(self, *, version: int) -> None:
        self._version = version

    def ask_from(self, path: str, body: bytes) -> Ask:
        """Read a request; raises `Refused`."""
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refused(400, "invalid json syntax") from None
        if not isinstance(fields, dict):
            raise Refused(400, "invalid type: the body must be an object")
        texts = fields.pop("texts", None)
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise Refused(400, "invalid request: texts must be a non-empty list of strings")
        if not isinstance(model := fields.get("model"), str):
            raise Refused(400, "invalid request: model is required")
        if not fields.get("input_type"):
            raise Refused(400, "invalid request: input_type is required")
        types = fields.get("embedding_types", ["float"])
        if types != ["float"]:
            raise Refused(400, f"invalid request: embedding_types {types} are not valid here")
        return Ask(model, texts, fields.get("output_dimension"), False, fields)

    def answer(self, ask: Ask, entries: Sequence[Entry], tokens: int | None) -> bytes:
        """Write an answer; without `tokens`, one that reports no usage."""
        rows = b"[%b]" % b",".join([entry.embedding for entry in entries])
        has_types = self._version > 1 or "embedding_types" in ask.fields
        usage = {} if tokens is None else {"billed_units": {"input_tokens": tokens}}
        return b'{"id":"fake","response_type":%b,"embeddings":%b,"texts":%b,"meta":%b}' % (
            b'"embeddings_by_type"' if has_types else b'"embeddings_floats"',
            b'{"float":%b}' % rows if has_types else rows,
            orjson.dumps(ask.items),
            orjson.dumps({"api_version": {"version": str(self._version)}} | usage),
        )

    def error(self, status: int, message: str, param: str | None) -> bytes:
        """Write an error."""
        return orjson.dumps({"message": message})
