"""Sends texts to a pool over kept connections and reads its answers: one request, one try.

The connections are those on which workers talk to providers.

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

import orjson
from yarl import URL

from embedpool_cli.embed.answers import Answered, Refusal, Verdict, answered, refused
from embedpool_cli.embed.budget import pico_usd
from embedpool_shared.errors import ProviderError
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.wire_http import WireClient

ANSWER_PATIENCE_S: Final = 300.0
MAX_ANSWER_BYTES: Final = 512 * 1024 * 1024
PATH: Final = "/v1/embeddings"
COST: Final = "x-embedpool-cost-usd"


class Sender:
    """One pool and one model."""

    def __init__(self, url: str, key: str, *, model: str, dimensions: int | None) -> None:
        """Prepare; connections are made as they are needed."""
        address = URL(f"{url}{PATH}")
        self._wire = WireClient(
            address, HttpOptions().ssl_context(), max_answer_bytes=MAX_ANSWER_BYTES
        )
        self._target = address.raw_path_qs.encode()
        login = [(b"Authorization", f"Bearer {key}".encode())] if key else []
        self._headers = [(b"x-embedpool-class", b"bulk"), *login]
        self._fields: dict[str, Any] = {"model": model, "encoding_format": "base64"}
        if dimensions is not None:
            self._fields["dimensions"] = dimensions

    async def ask(self, texts: Sequence[str]) -> Answered | Refusal:
        """Ask once for the vectors of `texts`."""
        body = orjson.dumps({**self._fields, "input": texts})
        try:
            async with asyncio.timeout(ANSWER_PATIENCE_S):
                response = await self._wire.post(self._target, self._headers, body)
        except TimeoutError:
            return Refusal(Verdict.WAIT, f"no answer within {ANSWER_PATIENCE_S:g} s")
        except ProviderError as error:
            return Refusal(Verdict.WAIT, str(error))
        if response.status != 200:
            return refused(response.status, response.headers, response.body)
        answer = answered(response.body, len(texts))
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
        await self._wire.close()
