"""The lean client for the OpenAI wire format: OpenAI, Azure OpenAI, vLLM, TEI, any `api_base`.

Invariants
- One HTTP attempt per call: aiohttp repeats only idempotent methods after a dropped connection,
  never a POST. The exception: a provider that refuses `encoding_format` is asked again in the next
  simpler format within the same call, and that is remembered, so it happens once per deployment.
- No redirects, cookies, or proxies from the environment; the answer is never read past a cap.
- Nothing but `ProviderError`s leave `embed`.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from embedpool_shared.errors import (
    ProviderError,
    ProviderUnavailable,
    RefusedInput,
    WrongAnswer,
)
from embedpool_worker.providers.failures import failure, failure_in_answer
from embedpool_worker.providers.openai_answer import (
    ErrorInAnswer,
    NumberFormat,
    answer_from,
    body_of,
)
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from embedpool_worker.providers.sending import dims_sent, dims_wanted, key_sent

if TYPE_CHECKING:
    from embedpool_worker.deployments import Deployment
    from embedpool_worker.providers.http_options import HttpOptions

MAX_CONNECTIONS: Final = 1_000
CONNECT_TIMEOUT_S: Final = 10.0
KEEPALIVE_TLS_S: Final = 30.0
KEEPALIVE_PLAIN_S: Final = 4.0
"""uvicorn hangs up after 5 s; a POST sent into that moment fails and may not be repeated."""
AZURE_API_VERSION: Final = "2024-10-21"
OPENAI_API_BASE: Final = "https://api.openai.com/v1"

_SIMPLER: Final = {
    NumberFormat.BASE64: (NumberFormat.BASE64, NumberFormat.FLOAT, NumberFormat.UNSPOKEN),
    NumberFormat.FLOAT: (NumberFormat.FLOAT, NumberFormat.UNSPOKEN),
    NumberFormat.UNSPOKEN: (NumberFormat.UNSPOKEN,),
}
_FORMAT_REFUSED: Final = re.compile(r"encoding_?format|base64", re.IGNORECASE)


class _Door(Protocol):
    """Where a deployment's calls go, and what they carry."""

    def url(self, model: str) -> URL: ...

    def headers(self, secret: str | None) -> dict[str, str]: ...


class _OpenAIDoor:
    def __init__(self, deployment: Deployment) -> None:
        base = (deployment.api_base or OPENAI_API_BASE).rstrip("/")
        self._url = URL(base if base.endswith("/embeddings") else f"{base}/embeddings")
        self._organization = deployment.options.get("organization")

    def url(self, model: str) -> URL:
        return self._url

    def headers(self, secret: str | None) -> dict[str, str]:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        if self._organization:
            headers["OpenAI-Organization"] = self._organization
        return headers


class _AzureDoor:
    def __init__(self, deployment: Deployment) -> None:
        self._base = f"{(deployment.api_base or '').rstrip('/')}/openai/deployments"
        self._query = f"api-version={quote(deployment.api_version or AZURE_API_VERSION, safe='')}"

    def url(self, model: str) -> URL:
        # Behind a wildcard the name is the caller's: it must stay one segment of the path.
        if not model.strip("."):
            raise RefusedInput("this is no name of a deployment", param="model")
        return URL(f"{self._base}/{quote(model, safe='')}/embeddings?{self._query}", encoded=True)

    def headers(self, secret: str | None) -> dict[str, str]:
        return {} if secret is None else {"api-key": secret}


class OpenAIWire:
    """One deployment that speaks the OpenAI wire format."""

    def __init__(self, deployment: Deployment, options: HttpOptions) -> None:
        is_azure = deployment.provider == "azure"
        self._door: _Door = (_AzureDoor if is_azure else _OpenAIDoor)(deployment)
        self._deployment = deployment
        self._options = options
        self._format = NumberFormat.BASE64
        self._ssl = options.ssl_context()
        self._session: aiohttp.ClientSession | None = None

    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        """Answer every input of `call`, or raise one `ProviderError`."""
        try:
            async with asyncio.timeout(call.timeout_s):
                return await self._in_the_first_format_it_takes(call)
        # First, because aiohttp's connect timeout is a TimeoutError too.
        except aiohttp.ClientError as error:
            raise ProviderUnavailable(f"connection failed: {type(error).__name__}") from error
        except TimeoutError as error:
            raise ProviderUnavailable(f"no answer within {call.timeout_s:g} s") from error

    async def close(self) -> None:
        """Give back the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _in_the_first_format_it_takes(self, call: ProviderCall) -> ProviderAnswer:
        *better, last = _SIMPLER[self._format]
        for number_format in better:
            try:
                answer = await self._ask(call, number_format)
            except RefusedInput as refusal:
                if not _is_about_the_format(refusal):
                    raise
            else:
                # Only now: a refusal that merely quotes the caller's text changes nothing.
                self._format = number_format
                return answer
        answer = await self._ask(call, last)
        self._format = last
        return answer

    async def _ask(self, call: ProviderCall, number_format: NumberFormat) -> ProviderAnswer:
        asked = body_of(call, number_format, dims=dims_sent(self._deployment, call))
        status, headers, body = await self._post(call, asked)
        if status != 200:
            raise _failure(status, headers, body, call.secret)
        try:
            answer = answer_from(body, call, dims=dims_wanted(self._deployment, call))
        except ErrorInAnswer:
            raise failure_in_answer(body, now_unix_s=_now_unix_s(), secret=call.secret) from None
        return ProviderAnswer(
            vectors=answer.vectors,
            dims=answer.dims,
            model=answer.model,
            total_tokens=answer.total_tokens,
            headers=headers,
        )

    async def _post(self, call: ProviderCall, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = self._door.headers(key_sent(call))
        headers["Content-Type"] = "application/json"
        async with self._open_session().post(
            self._door.url(call.model),
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=self._options.proxy,
        ) as response:
            answer_headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, answer_headers, await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the body, decompressed, up to the cap."""
        parts: list[bytes] = []
        room_bytes = self._options.max_answer_bytes
        while part := await response.content.readany():
            room_bytes -= len(part)
            if room_bytes < 0:
                response.close()
                raise WrongAnswer(
                    f"the answer is larger than {self._options.max_answer_bytes} bytes"
                )
            parts.append(part)
        return b"".join(parts)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS,
                    ttl_dns_cache=60,
                    keepalive_timeout=_keepalive_s(self._deployment.api_base),
                    ssl=self._ssl,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "embedpool", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                trust_env=False,
                read_bufsize=262_144,
            )
        return self._session


def _failure(
    status: int, headers: dict[str, str], body: bytes, secret: str | None
) -> ProviderError:
    return failure(status, headers, body, now_unix_s=_now_unix_s(), secret=secret)


def _keepalive_s(api_base: str | None) -> float:
    is_plain = (api_base or OPENAI_API_BASE).startswith("http://")
    return KEEPALIVE_PLAIN_S if is_plain else KEEPALIVE_TLS_S


def _now_unix_s() -> float:
    # The wall clock, because a Retry-After may be a date.
    return datetime.now(UTC).timestamp()


def _is_about_the_format(refusal: RefusedInput) -> bool:
    if refusal.param is not None and refusal.param != "encoding_format":
        return False
    words = f"{refusal.message} {refusal.code or ''} {refusal.param or ''}"
    return _FORMAT_REFUSED.search(words) is not None
