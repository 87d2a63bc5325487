"""Providers that LiteLLM speaks with, over HTTP, each as strict as the real one.

`foreign_bodies` knows their formats; here is the server: the address decides which one answers.
Vectors are `vectors.vector_of(text, dims)`; every request is remembered.
"""

from __future__ import annotations

import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import orjson

from support import foreign_bodies as bodies
from support.background import in_background
from support.foreign_bodies import DIMS, ITEM_TOKENS
from support.http_server import Head, HttpServer, Response
from support.wire_formats import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

    from support.tls import TlsFiles

__all__ = ["ACCESS_TOKEN", "DIMS", "ITEM_TOKENS", "ForeignProvider"]

ACCESS_TOKEN: Final = "ya29.fake-access-token"
Format = tuple[str, "Callable[[dict[str, Any]], Any]", str]
"""What its address looks like, how it answers, and the header that says who asks."""

_FORMATS: Final[tuple[Format, ...]] = (
    (r"/model/amazon\.titan-embed-text-v1/invoke", bodies.titan_v1, "aws"),
    (r"/model/amazon\.titan-embed-text-v2:0/invoke", bodies.titan_v2, "aws"),
    (r"/model/cohere\.embed-.*-v3/invoke", bodies.bedrock_cohere_v3, "aws"),
    (r"/model/cohere\.embed-v4:0/invoke", bodies.bedrock_cohere_v4, "aws"),
    (r"/endpoints/.+/invocations", bodies.sagemaker, "aws"),
    (r"/publishers/google/models/gemini-.+:predict", bodies.vertex_gemini, "google"),
    (r"/publishers/google/models/.+:predict", bodies.vertex, "google"),
    (r"/models/.+:batchEmbedContents", bodies.gemini, "x-goog-api-key"),
    (r"^/cohere/v2/embed$", bodies.cohere_v2, "bearer"),
    (r"^/voyage/.*embeddings$", bodies.voyage, "bearer"),
    (r"^/mistral/.*embeddings$", bodies.mistral, "bearer"),
    (r"^/jina/.*embeddings$", bodies.jina, "bearer"),
    (r"^/dashscope/.*embeddings$", bodies.dashscope, "bearer"),
    (r"^/nvidia/.*embeddings$", bodies.nvidia, "bearer"),
    (r"^/databricks/.*embeddings$", bodies.databricks, "bearer"),
    (r"/20231130/actions/embedText$", bodies.oci, "oci"),
    (r"/ml/v1/text/embeddings$", bodies.watsonx, "bearer"),
    (r"^/hf", bodies.huggingface, "bearer"),
    (r"/api/embed$", bodies.ollama, ""),
    (r"^/plain/.*embeddings$", bodies.openai_like, "bearer"),
)
_BEGINNING_OF: Final = {
    "aws": ("authorization", "AWS4-HMAC-SHA256 Credential="),
    "google": ("authorization", f"Bearer {ACCESS_TOKEN}"),
    "bearer": ("authorization", "Bearer "),
    "oci": ("authorization", 'Signature version="1"'),
    "x-goog-api-key": ("x-goog-api-key", ""),
}


@dataclass(slots=True)
class ForeignProvider:
    """One server for all formats."""

    url: str = ""
    requests: list[tuple[Head, Any]] = field(default_factory=list)
    sign_ins: list[dict[str, str]] = field(default_factory=list)
    refusal: Response | None = None
    echoes_status: int | None = None  # refuse with this, and repeat every header in the message
    server: HttpServer | None = None

    @classmethod
    def in_thread(cls, tls: TlsFiles | None = None) -> AbstractContextManager[ForeignProvider]:
        """Serve from a thread of its own."""
        return in_background(lambda: _serving(tls))

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self.server is not None
        return self.server.port

    def forget(self) -> None:
        """Behave well again, and forget what was asked."""
        self.requests.clear()
        self.sign_ins.clear()
        self.refusal = self.echoes_status = None

    def answer(self, head: Head, body: bytes) -> Response:
        """Answer as the provider that lives at the address asked for."""
        if head.path == "/token":
            self.sign_ins.append(dict(parse_qsl(body.decode())))
            return _json({"access_token": ACCESS_TOKEN, "expires_in": 3_599})
        fields: Any = orjson.loads(body) if body else {}
        self.requests.append((head, fields))
        if self.refusal is not None:
            return self.refusal
        if self.echoes_status is not None:
            said = f"who are you? {dict(head.headers)}"
            return Response(orjson.dumps({"message": said}), self.echoes_status)
        try:
            return _json(_answer_to(head, fields))
        except Refused as refusal:
            return Response(orjson.dumps({"message": str(refusal)}), refusal.status)


def _answer_to(head: Head, fields: Any) -> Any:
    for pattern, answer, login in _FORMATS:
        if re.search(pattern, unquote(head.path)):
            name, beginning = _BEGINNING_OF.get(login, ("host", ""))
            if not head.headers.get(name, "\0").startswith(beginning):
                raise Refused(401, "who are you?")
            if login == "aws" and "x-amz-date" not in head.headers:
                raise Refused(403, "the request is not signed")
            return answer(fields)
    raise Refused(404, "no such address")


@asynccontextmanager
async def _serving(tls: TlsFiles | None) -> AsyncIterator[ForeignProvider]:
    provider = ForeignProvider()
    provider.server = HttpServer(provider.answer)
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
    await provider.server.start(tls=context)
    provider.url = f"{'https' if tls else 'http'}://127.0.0.1:{provider.port}"
    try:
        yield provider
    finally:
        await provider.server.stop()


def _json(value: object) -> Response:
    return Response(orjson.dumps(value))
