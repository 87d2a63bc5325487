"""The way out for everything LiteLLM sends: one attempt, no redirects, an answer of bounded size.

LiteLLM repeats a POST whose connection broke, follows redirects with the credential, reads
proxies from the environment, and loses the provider's status, headers and body on the way up. A
transport below it can refuse the first three and remember the fourth.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import httpx
from typing_extensions import override

from embedpool_worker.providers.unpacking import NotTaken, Unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedpool_worker.providers.http_options import HttpOptions

MAX_CONNECTIONS: Final = 1_000
_HOP_HEADERS: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(slots=True)
class Sighting:
    """What went over the wire during one call of ours."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)  # lower case
    body: bytes = b""
    broken: str | None = None  # why the last attempt got no answer
    unreadable: str | None = None  # why the answer was not taken
    asked: set[str] = field(default_factory=set)  # addresses already posted to


_current: ContextVar[Sighting | None] = ContextVar("sighting", default=None)


@contextmanager
def watched() -> Iterator[Sighting]:
    """Remember what goes through the border inside this block, in this task and its children."""
    sighting = Sighting()
    token = _current.set(sighting)
    try:
        yield sighting
    finally:
        _current.reset(token)


class Border(httpx.AsyncBaseTransport):
    """The only transport of LiteLLM's HTTP clients; it may be used from several loops."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._ssl = options.ssl_context()
        self._per_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncHTTPTransport] = (
            WeakKeyDictionary()
        )

    def client(self, timeout: httpx.Timeout | float | None = None) -> httpx.AsyncClient:
        """Build a client that has no other way out."""
        return httpx.AsyncClient(
            transport=self, timeout=timeout, follow_redirects=False, trust_env=False
        )

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` once; a second time to the same address in the same call is refused."""
        sighting = _current.get() or Sighting()
        address = f"{request.method} {request.url}"
        if address in sighting.asked:
            raise httpx.ReadError("a call is sent once; repeating it is decided elsewhere")
        sighting.asked.add(address)
        try:
            response = await self._send(request)
        except NotTaken as error:
            sighting.unreadable = str(error)
            raise httpx.ReadError("the answer is not taken") from error
        except httpx.TransportError as error:
            sighting.broken = type(error).__name__
            # Not the error itself: LiteLLM answers ConnectError and RemoteProtocolError with a
            # second attempt.
            raise httpx.ReadError(f"{type(error).__name__} from the provider") from error
        sighting.status, sighting.body = response.status_code, response.content
        sighting.headers = {name.lower(): value for name, value in response.headers.items()}
        return response

    @override
    async def aclose(self) -> None:
        """Give back this loop's connections; the next request opens new ones.

        LiteLLM closes clients it drops from its cache, so this must not be final.
        """
        transport = self._per_loop.pop(asyncio.get_running_loop(), None)
        if transport is not None:
            await transport.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        # Some of LiteLLM's callers ask for brotli or zstd, where a kilobyte may hold gigabytes.
        request.headers["accept-encoding"] = "identity"
        streamed = await self._transport().handle_async_request(request)
        try:
            content = await self._read(streamed)
        except NotTaken:
            if streamed.status_code == 200:
                raise
            content = b""  # of a refusal the status says enough
        finally:
            await streamed.aclose()
        headers = [
            (name, value)
            for name, value in streamed.headers.multi_items()
            if name.lower() not in _HOP_HEADERS
        ]
        return httpx.Response(
            streamed.status_code, headers=headers, content=content, request=request
        )

    async def _read(self, response: httpx.Response) -> bytes:
        """Read the body, decompressed, up to the cap; raises `NotTaken`."""
        encoding = response.headers.get("content-encoding", "")
        body = Unpacked(encoding, max_bytes=self._options.max_answer_bytes)
        async for part in response.aiter_raw():
            body.add(part)
        return body.whole()

    def _transport(self) -> httpx.AsyncHTTPTransport:
        loop = asyncio.get_running_loop()
        transport = self._per_loop.get(loop)
        if transport is None:
            transport = self._per_loop[loop] = httpx.AsyncHTTPTransport(
                verify=self._ssl,
                proxy=self._options.proxy,
                trust_env=False,
                retries=0,
                limits=httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=4.0),
            )
        return transport
