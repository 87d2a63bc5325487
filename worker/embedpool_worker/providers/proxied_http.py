"""The way through the operator's proxy, which aiohttp knows; loaded only where one is configured.

It posts as `WireClient` does: once, without redirects or cookies, never reading past the cap.
"""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp
from yarl import URL

from embedpool_shared.errors import ProviderUnavailable, WrongAnswer
from embedpool_worker.providers.wire_connection import WireAnswer
from embedpool_worker.providers.wire_dial import KEEP_ADDRESSES_S
from embedpool_worker.providers.wire_http import (
    CONNECT_TIMEOUT_S,
    FIXED_HEADERS,
    KEEPALIVE_PLAIN_S,
    KEEPALIVE_TLS_S,
    Headers,
)

MAX_CONNECTIONS: Final = 1_000


class ProxiedClient:
    """The way to the scheme, host and port of `base` through `proxy`."""

    def __init__(
        self, base: URL, ssl_context: ssl.SSLContext, *, proxy: str, max_answer_bytes: int
    ) -> None:
        self._origin = f"{base.scheme}://{base.host_port_subcomponent}"
        self._keepalive_s = KEEPALIVE_TLS_S if base.scheme == "https" else KEEPALIVE_PLAIN_S
        self._ssl = ssl_context
        self._proxy = proxy
        self._max_answer_bytes = max_answer_bytes
        self._session: aiohttp.ClientSession | None = None

    async def post(self, target: bytes, headers: Headers, body: bytes) -> WireAnswer:
        """POST `body` to `target`, a path with its query; raises one `ProviderError`."""
        try:
            async with self._open_session().post(
                URL(self._origin + target.decode("ascii"), encoded=True),
                data=body,
                headers=_texts(headers),
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                names = {name.lower(): value for name, value in response.headers.items()}
                return WireAnswer(response.status, names, await self._read(response))
        except aiohttp.ClientError as error:
            raise ProviderUnavailable(f"connection failed: {type(error).__name__}") from error

    async def close(self) -> None:
        """Give back the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        room_bytes = self._max_answer_bytes
        while part := await response.content.readany():
            room_bytes -= len(part)
            if room_bytes < 0:
                response.close()
                raise WrongAnswer(f"the answer is larger than {self._max_answer_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS,
                    ttl_dns_cache=int(KEEP_ADDRESSES_S),
                    keepalive_timeout=self._keepalive_s,
                    ssl=self._ssl,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_texts(FIXED_HEADERS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                trust_env=False,
                read_bufsize=262_144,
            )
        return self._session


def _texts(headers: Headers) -> dict[str, str]:
    return {name.decode("ascii"): value.decode() for name, value in headers}
