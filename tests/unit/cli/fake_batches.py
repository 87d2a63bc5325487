"""A pool's batches over HTTP, as far as `embedpool batches` sees them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from support.background import in_background
from support.http_server import Head, HttpServer, Response
from unit.cli.fake_pool import refusal

KEY = "sk-ep-a-virtual-key"


def a_batch(name: str = "one", **fields: Any) -> dict[str, Any]:
    """Write a batch as the pool shows it."""
    return {
        "id": f"batch_{name}",
        "object": "batch",
        "endpoint": "/v1/embeddings",
        "model": "small",
        "errors": None,
        "input_file_id": "file-in",
        "completion_window": "24h",
        "status": "in_progress",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1_772_364_600,
        "expires_at": 1_772_451_000,
        "request_counts": {"total": 50_000, "completed": 1_200, "failed": 3},
        "usage": {"input_tokens": 9_000, "output_tokens": 0, "total_tokens": 9_000},
        "metadata": None,
        "embedpool": {"cost_usd": "0.00018", "owner": None},
        **fields,
    }


def a_failed_line(custom_id: str, message: str = "too long", status: int = 400) -> dict[str, Any]:
    """Write a line of an error file."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "x"}
    response = {"status_code": status, "request_id": "r", "body": {"error": error}}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def an_unsent_line(custom_id: str, code: str) -> dict[str, Any]:
    """Write a line of an error file that was never sent."""
    error = {"code": code, "message": "was not sent"}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": None, "error": error}


@dataclass
class FakeBatches:
    """Answers from `batches`, newest first, and remembers what it was asked."""

    batches: list[dict[str, Any]]
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    max_page: int = 100
    override: Response | None = None
    key: str = KEY
    url: str = ""

    def answer(self, head: Head, body: bytes) -> Response:
        """Answer one request."""
        query = {name: values[0] for name, values in parse_qs(head.query).items()}
        self.asked.append((head.method, head.path, query))
        if self.override is not None:
            return self.override
        if head.key != self.key:
            return refusal(401, "Invalid API key")
        return self._found(head, query)

    def _found(self, head: Head, query: dict[str, str]) -> Response:
        match head.path.removeprefix("/v1/").split("/"):
            case ["batches"]:
                return _json(self._page(query))
            case ["batches", name]:
                return self._about(name)
            case ["batches", name, "cancel"] if head.method == "POST":
                return self._about(name, status="cancelling")
            case ["files", name, "content"] if name in self.files:
                return Response(_lines(self.files[name]))
        return refusal(404, f"No such path: {head.path}")

    def _about(self, name: str, **more: str) -> Response:
        found = next((one for one in self.batches if one["id"] == name), None)
        return _json({**found, **more}) if found else refusal(404, f"No such batch: {name}")

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        names = [one["id"] for one in self.batches]
        start = names.index(query["after"]) + 1 if "after" in query else 0
        end = start + min(int(query["limit"]), self.max_page)
        return {
            "object": "list",
            "data": self.batches[start:end],
            "has_more": end < len(self.batches),
        }


def _json(answer: dict[str, Any]) -> Response:
    return Response(json.dumps(answer).encode())


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


@contextmanager
def fake_batches(*batches: dict[str, Any]) -> Iterator[FakeBatches]:
    """Serve these batches on loopback."""
    pool = FakeBatches(list(batches))

    @asynccontextmanager
    async def served() -> AsyncIterator[HttpServer]:
        server = HttpServer(pool.answer)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    with in_background(served) as server:
        pool.url = f"http://127.0.0.1:{server.port}"
        yield pool
