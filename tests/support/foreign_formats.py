"""Providers that only LiteLLM speaks with, over HTTP: HuggingFace, Gemini, Bedrock Titan, Ollama.

Vectors are `vectors.vector_of(text, DIMS)`; every request is remembered.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from support.background import in_background
from support.http_server import Head, HttpServer, Response
from support.vectors import vector_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

DIMS: Final = 12
ITEM_TOKENS: Final = 3
"""What each text costs, wherever a format reports usage."""


@dataclass(slots=True)
class ForeignProvider:
    """One server for all formats: the address decides."""

    url: str = ""
    requests: list[tuple[Head, Any]] = field(default_factory=list)
    refusal: Response | None = None
    server: HttpServer | None = None

    @classmethod
    def in_thread(cls) -> AbstractContextManager[ForeignProvider]:
        """Serve from a thread of its own."""
        return in_background(_serving)

    def answer(self, head: Head, body: bytes) -> Response:
        """Answer as the provider that lives at the address asked for."""
        fields: Any = orjson.loads(body) if body else {}
        self.requests.append((head, fields))
        if self.refusal is not None:
            return self.refusal
        if head.path.endswith("/invoke"):
            return _json(_titan(fields))
        if head.path.endswith(":batchEmbedContents"):
            return _json(_gemini(fields))
        if head.path.endswith("/api/embed"):
            return _json({"embeddings": _rows(fields["input"]), "prompt_eval_count": ITEM_TOKENS})
        if head.path.startswith("/hf"):
            return _json(_rows(fields["inputs"]))
        return Response(b'{"message":"no such address"}', 404)


@asynccontextmanager
async def _serving() -> AsyncIterator[ForeignProvider]:
    provider = ForeignProvider()
    provider.server = HttpServer(provider.answer)
    await provider.server.start()
    provider.url = f"http://127.0.0.1:{provider.server.port}"
    try:
        yield provider
    finally:
        await provider.server.stop()


def _titan(fields: dict[str, Any]) -> dict[str, Any]:
    row = _row(fields["inputText"])
    return {
        "embedding": row,
        "embeddingsByType": {"float": row},
        "inputTextTokenCount": ITEM_TOKENS,
    }


def _gemini(fields: dict[str, Any]) -> dict[str, Any]:
    texts = [request["content"]["parts"][0]["text"] for request in fields["requests"]]
    return {"embeddings": [{"values": row} for row in _rows(texts)]}


def _rows(texts: list[str]) -> list[list[float]]:
    return [_row(text) for text in texts]


def _row(text: str) -> list[float]:
    return [float(number) for number in np.frombuffer(vector_of(text, DIMS), "<f4")]


def _json(value: object) -> Response:
    return Response(orjson.dumps(value))
