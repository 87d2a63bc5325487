"""Sends texts to a pool over kept connections and reads its answers: one request, one try.

Invariants
- No redirects, no cookies, no proxies; the key goes to the named address and is in no error.
- Whatever happens ends in an answer or a refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson

from embedpool_cli.embed.answers import Answered, Refusal, Verdict, answered, refused
from embedpool_cli.embed.budget import pico_usd

CONNECT_PATIENCE_S: Final = 10.0
ANSWER_PATIENCE_S: Final = 300.0
PATH: Final = "/v1/embeddings"
COST: Final = "x-embedpool-cost-usd"


class Sender:
    """One pool and one model."""

    def __init__(self, url: str, key: str, *, model: str, dimensions: int | None) -> None:
        """Prepare; connections are made as they are needed."""
        self._url = f"{url}{PATH}"
        self._fields: dict[str, Any] = {"model": model, "encoding_format": "base64"}
        if dimensions is not None:
            self._fields["dimensions"] = dimensions
        login = {"authorization": f"Bearer {key}"} if key else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "content-type": "application/json",
                "accept-encoding": "identity",
                "x-embedpool-class": "bulk",
                **login,
            },
            timeout=aiohttp.ClientTimeout(total=ANSWER_PATIENCE_S, sock_connect=CONNECT_PATIENCE_S),
            read_bufsize=1 << 20,
        )

    async def ask(self, texts: Sequence[str]) -> Answered | Refusal:
        """Ask once for the vectors of `texts`."""
        body = orjson.dumps({**self._fields, "input": texts})
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                came = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            return Refusal(Verdict.WAIT, _silence(error))
        if response.status != 200:
            return refused(response.status, response.headers, came)
        answer = answered(came, len(texts))
        if isinstance(answer, Refusal):
            return answer
        return replace(answer, pico_usd=pico_usd(response.headers.get(COST, "0")))

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        await self._session.close()


def _silence(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_PATIENCE_S:g} s"
    why = getattr(error, "strerror", None)
    return f"the connection failed: {why or type(error).__name__}"
