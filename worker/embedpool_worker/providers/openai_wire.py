"""The lean client for the OpenAI wire format: OpenAI, Azure OpenAI, vLLM, TEI, any `api_base`.

Invariants
- One HTTP attempt per call. The exception: a provider that refuses `encoding_format` is asked again
  in the next simpler format within the same call, and that is remembered, so it happens once per
  deployment.
- No redirects, cookies, or proxies from the environment; the answer is never read past a cap.
- Nothing but `ProviderError`s leave `embed`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from yarl import URL

from embedpool_shared.errors import (
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
from embedpool_worker.providers.sending import dims_sent, dims_wanted, key_sent, secrets_of
from embedpool_worker.providers.wire_connection import WireAnswer
from embedpool_worker.providers.wire_http import Headers, Wire, WireClient, header_lines

if TYPE_CHECKING:
    from embedpool_worker.deployments import Deployment
    from embedpool_worker.providers.http_options import HttpOptions

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

    base: URL

    def target(self, model: str) -> bytes: ...

    def headers(self, secret: str | None) -> Headers: ...


class _OpenAIDoor:
    def __init__(self, deployment: Deployment) -> None:
        base = (deployment.api_base or OPENAI_API_BASE).rstrip("/")
        self.base = URL(base if base.endswith("/embeddings") else f"{base}/embeddings")
        self._target = self.base.raw_path_qs.encode("ascii")
        organization = deployment.options.get("organization")
        self._always = [(b"OpenAI-Organization", organization.encode())] if organization else []
        header_lines(self._always)
        self._without_key = [*self._always, *_login(self.base)]
        self._secret: str | None = None
        self._with_key: Headers = []

    def target(self, model: str) -> bytes:
        return self._target

    def headers(self, secret: str | None) -> Headers:
        if secret is None:
            return self._without_key
        if secret != self._secret:  # mostly the one before
            login = (b"Authorization", b"Bearer " + secret.encode("ascii"))
            self._secret, self._with_key = secret, [login, *self._always]
        return self._with_key


class _AzureDoor:
    def __init__(self, deployment: Deployment) -> None:
        self.base = URL(f"{(deployment.api_base or '').rstrip('/')}/openai/deployments")
        self._path = self.base.raw_path
        self._query = f"api-version={quote(deployment.api_version or AZURE_API_VERSION, safe='')}"
        self._login = _login(self.base)

    def target(self, model: str) -> bytes:
        # Behind a wildcard the name is the caller's: it must stay one segment of the path.
        if not model.strip("."):
            raise RefusedInput("this is no name of a deployment", param="model")
        return f"{self._path}/{quote(model, safe='')}/embeddings?{self._query}".encode("ascii")

    def headers(self, secret: str | None) -> Headers:
        key = [] if secret is None else [(b"api-key", secret.encode("ascii"))]
        return [*key, *self._login]


class OpenAIWire:
    """One deployment that speaks the OpenAI wire format."""

    def __init__(self, deployment: Deployment, options: HttpOptions) -> None:
        is_azure = deployment.provider == "azure"
        self._door: _Door = (_AzureDoor if is_azure else _OpenAIDoor)(deployment)
        self._deployment = deployment
        self._format = NumberFormat.BASE64
        self._wire = _wire(self._door.base, options)

    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        """Answer every input of `call`, or raise one `ProviderError`."""
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

    async def close(self) -> None:
        """Give back the connections."""
        await self._wire.close()

    async def _ask(self, call: ProviderCall, number_format: NumberFormat) -> ProviderAnswer:
        asked = body_of(call, number_format, dims=dims_sent(self._deployment, call))
        came = await self._wire.post(
            self._door.target(call.model), self._door.headers(key_sent(call)), asked
        )
        body = _plain_body(came)
        if came.status != 200:
            raise failure(
                came.status,
                came.headers,
                bytes(body),
                now_unix_s=_now_unix_s(),
                secrets=secrets_of(self._deployment, call),
            )
        try:
            dims = dims_wanted(self._deployment, call)
            return answer_from(body, call, dims=dims, headers=came.headers)
        except ErrorInAnswer:
            secrets = secrets_of(self._deployment, call)
            raise failure_in_answer(
                bytes(body), now_unix_s=_now_unix_s(), secrets=secrets
            ) from None


def _wire(base: URL, options: HttpOptions) -> Wire:
    trust, most = options.ssl_context(), options.max_answer_bytes
    if options.proxy is None:
        return WireClient(base, trust, max_answer_bytes=most)
    # A tenth of a second of import, for the few who need it.
    from embedpool_worker.providers.proxied_http import ProxiedClient  # noqa: PLC0415

    return ProxiedClient(base, trust, proxy=options.proxy, max_answer_bytes=most)


def _login(base: URL) -> Headers:
    """The credentials written into an address, for where there is no key."""
    if base.user is None and base.password is None:
        return []
    pair = f"{base.user or ''}:{base.password or ''}"
    return [(b"Authorization", b"Basic " + b64encode(pair.encode()))]


def _plain_body(came: WireAnswer) -> bytes | bytearray:
    """The body, which nobody asked to be compressed; of a refusal the status says enough."""
    encoding = came.headers.get("content-encoding")
    if encoding is None or encoding.strip().lower() in {"", "identity"}:
        return came.body
    if came.status == 200:
        raise WrongAnswer("the answer is compressed, although that was not asked for")
    return b""


def _now_unix_s() -> float:
    # The wall clock, because a Retry-After may be a date.
    return datetime.now(UTC).timestamp()


def _is_about_the_format(refusal: RefusedInput) -> bool:
    if refusal.param is not None and refusal.param != "encoding_format":
        return False
    words = f"{refusal.message} {refusal.code or ''} {refusal.param or ''}"
    return _FORMAT_REFUSED.search(words) is not None
