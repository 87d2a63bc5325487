"""Callers of a pool: cheap ones by the hundred, and what their answers must look like.

An httpx client takes a millisecond of CPU for each request, so that two hundred of them are no
crowd but a queue. A `Caller` is one connection, kept alive, that speaks just enough HTTP.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import numpy as np

from support.vectors import Input, vector_of

DIMS: Final = 1_536
UPSTREAM: Final = "text-embedding-3-small"
EMBEDDINGS: Final = "/v1/embeddings"
_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller got."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]
    took_s: float

    @property
    def error(self) -> dict[str, Any]:
        """The error, which has its four keys and nothing else."""
        error: dict[str, Any] = self.body["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def vectors(self) -> list[bytes]:
        """The vectors by position, as float32 bytes; their indices count from 0."""
        return vectors_in(self.body)


def vectors_in(body: Mapping[str, Any]) -> list[bytes]:
    """Take an answer's vectors out of it, whatever their encoding; indices must count from 0."""
    items = body["data"]
    assert [item["index"] for item in items] == list(range(len(items)))
    return [float32_of(item["embedding"]) for item in items]


def float32_of(embedding: str | Sequence[float]) -> bytes:
    """Read one embedding of an answer."""
    if isinstance(embedding, str):
        return b64decode(embedding, validate=True)
    return np.asarray(embedding, "<f4").tobytes()


def right(inputs: Sequence[Input], *, dims: int = DIMS, upstream: str = UPSTREAM) -> list[bytes]:
    """The vectors the fake provider has for these inputs."""
    return [vector_of(one, dims, upstream) for one in inputs]


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Read an error, which is JSON with four keys and nothing else."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


def seen(answer: httpx.Response) -> tuple[Any, ...]:
    """What of an error a program decides by."""
    error = error_of(answer)
    return (answer.status_code, error["type"], error["param"], error["code"])


def asked(model: str, given: Any, **fields: Any) -> dict[str, Any]:
    """Write a request for vectors in base64."""
    return {"model": model, "input": given, "encoding_format": "base64", **fields}


class Caller:
    """One connection to a pool; it asks one thing at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def at(cls, url: str) -> Self:
        """Connect to the pool at `url`."""
        parts = urlsplit(url)
        assert parts.hostname
        return cls(*await asyncio.open_connection(parts.hostname, parts.port), parts.netloc)

    def send(self, body: Mapping[str, Any], headers: Mapping[str, str] = _NO_HEADERS) -> None:
        """Put a request on its way without waiting for anything."""
        content = json.dumps(body).encode()
        lines = [
            f"POST {EMBEDDINGS} HTTP/1.1",
            f"host: {self._host}",
            "content-type: application/json",
            f"content-length: {len(content)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + content)

    async def receive(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Read one answer: status, headers, body."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return int(head[0].split(" ")[1]), headers, json.loads(body)

    async def ask(
        self, body: Mapping[str, Any], headers: Mapping[str, str] = _NO_HEADERS
    ) -> Answer:
        """Ask, and wait for the answer."""
        began_at = time.monotonic()
        self.send(body, headers)
        status, answered, content = await self.receive()
        return Answer(status, answered, content, time.monotonic() - began_at)

    async def hang_up(self) -> None:
        """Close the connection, whatever it waits for."""
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def callers(count: int, url: str) -> AsyncIterator[list[Caller]]:
    """Connect so many callers, and hang up at the end."""
    connected = await asyncio.gather(*(Caller.at(url) for _ in range(count)))
    try:
        yield connected
    finally:
        await asyncio.gather(*(caller.hang_up() for caller in connected), return_exceptions=True)


async def all_at_once(
    url: str, bodies: Sequence[Mapping[str, Any]], headers: Mapping[str, str] = _NO_HEADERS
) -> list[Answer]:
    """Ask each of these on a connection of its own, all connected before the first one asks."""
    async with callers(len(bodies), url) as connected:
        pairs = zip(connected, bodies, strict=True)
        return await asyncio.gather(*(caller.ask(body, headers) for caller, body in pairs))
