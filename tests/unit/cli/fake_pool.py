"""A pool's admin routes over HTTP, as far as `embedpool key` sees them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from support.background import in_background
from support.http_server import Head, HttpServer, Response

MASTER = "sk-a-long-and-random-master-key"


def a_key(alias: str | None = "ci", **fields: Any) -> dict[str, Any]:
    """Write a key as the pool shows it."""
    token = fields.pop("token", f"id-of-{alias}")
    return {
        "token": token,
        "key_alias": alias,
        "key_name": "sk-ep-...abcd",
        "models": [],
        "spend": 0.0,
        "blocked": False,
        **fields,
    }


@dataclass
class FakePool:
    """Answers from `keys`, one question after the other, and remembers what it was asked."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    page_keys: int = 100
    override: Response | None = None
    url: str = ""

    def answer(self, head: Head, body: bytes) -> Response:
        """Answer one request."""
        query = {name: values[0] for name, values in parse_qs(head.query).items()}
        said = json.loads(body) if body else query
        self.asked.append((head.method, head.path, said))
        if self.override is not None:
            return self.override
        if head.key != MASTER:
            return refusal(401, "Invalid API key")
        return Response(json.dumps(self._answers()[head.path](said)).encode())

    def _answers(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        return {
            "/key/generate": lambda said: {"key": "sk-ep-secret", **a_key(None), **said},
            "/key/regenerate": lambda said: {"key": "sk-ep-fresh", **a_key("ci"), "was": said},
            "/key/delete": lambda said: {"deleted_keys": said["keys"]},
            "/key/info": lambda said: {"key": said["key"], "info": self.keys[0]},
            "/key/list": self._page,
        }

    def _page(self, said: dict[str, Any]) -> dict[str, Any]:
        page, size = int(said["page"]), min(int(said["size"]), self.page_keys)
        shown = self.keys[(page - 1) * size : page * size]
        pages = -(-len(self.keys) // size)
        return {"keys": shown, "total_count": len(self.keys), "total_pages": pages}

    @property
    def last(self) -> tuple[str, str, dict[str, Any]]:
        """What was asked last."""
        return self.asked[-1]


def refusal(status: int, message: str) -> Response:
    """Refuse as the pool does."""
    error = {"message": message, "type": "x", "param": None, "code": None}
    return Response(json.dumps({"error": error}).encode(), status)


@contextmanager
def fake_pool(*keys: dict[str, Any]) -> Iterator[FakePool]:
    """Serve these keys on loopback."""
    pool = FakePool(list(keys))

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
