"""Signs in to Google Cloud: an access token for whatever credentials the operator has.

LiteLLM leaves this to google-auth, which would be one more package, blocks the thread it runs in,
and knows neither the operator's proxy nor his certificates.

Invariants
- A token is asked for once, however many calls wait for it, and again before it runs out.
- Nothing but `ProviderError`s leave `token`, and no message holds a credential.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from embedpool_shared.errors import KeyRejected, ProviderUnavailable
from embedpool_worker.providers.google_assertion import assertion

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
METADATA_HOST: Final = "metadata.google.internal"
RENEW_BEFORE_END_S: Final = 120.0
_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_USERS_FILE: Final = ".config/gcloud/application_default_credentials.json"


class Login(NamedTuple):
    """What a call to Vertex needs besides its address."""

    project: str | None
    token: str


@dataclass(slots=True)
class GoogleLogin:
    """One deployment's way in; `outward` and `inward` build clients, with the proxy and without."""

    credentials: str | None = field(repr=False)  # JSON or a file's path; None: the host's own
    outward: Callable[[], httpx.AsyncClient]
    inward: Callable[[], httpx.AsyncClient]
    _login: Login | None = field(default=None, repr=False)
    _until_at: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def login(self) -> Login:
        """Return a token that is good for some minutes; raises a `ProviderError`."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._login is None or now >= self._until_at:
                self._login, lasts_s = await self._signed_in()
                self._until_at = now + lasts_s - RENEW_BEFORE_END_S
            return self._login

    async def _signed_in(self) -> tuple[Login, float]:
        given = await asyncio.to_thread(_found, self.credentials)
        if given is None:
            return await self._by_metadata()
        project = given.get("project_id") or given.get("quota_project_id")
        answer = await _asked(
            self.outward(), "POST", str(given.get("token_uri") or TOKEN_URI), data=_grant(given)
        )
        return _login_from(answer, project)

    async def _by_metadata(self) -> tuple[Login, float]:
        """Ask the machine this runs on, if it is one of Google's."""
        base = f"http://{os.environ.get('GCE_METADATA_HOST') or METADATA_HOST}/computeMetadata/v1"
        headers = {"Metadata-Flavor": "Google"}
        path = "instance/service-accounts/default/token"
        answer = await _asked(self.inward(), "GET", f"{base}/{path}", headers=headers)
        project = await _asked(self.inward(), "GET", f"{base}/project/project-id", headers=headers)
        return _login_from(answer, project.text.strip())


def _found(credentials: str | None) -> Mapping[str, Any] | None:
    """Read the credentials where they are; None where there are none but the host's own."""
    text = credentials or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not text:
        file = Path.home() / _USERS_FILE
        if not file.is_file():
            return None
        text = str(file)
    try:
        given = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    except (OSError, ValueError) as error:
        kind = type(error).__name__
        raise KeyRejected(f"vertex_credentials cannot be read: {kind}") from None
    if not isinstance(given, Mapping):
        raise KeyRejected("vertex_credentials must be a JSON object, or a file that holds one")
    return given


def _grant(given: Mapping[str, Any]) -> dict[str, str]:
    try:
        match given.get("type"):
            case "service_account":
                now_unix_s = int(datetime.now(UTC).timestamp())
                signed = assertion(given, audience=TOKEN_URI, now_unix_s=now_unix_s)
                return {"grant_type": _JWT_GRANT, "assertion": signed}
            case "authorized_user":
                names = ("client_id", "client_secret", "refresh_token")
                return {"grant_type": "refresh_token", **{name: given[name] for name in names}}
            case other:
                raise KeyRejected(
                    f"vertex_credentials of type {other!r} are not known; "
                    "service_account and authorized_user are"
                )
    except KeyError as error:
        raise KeyRejected(f"vertex_credentials hold no {error.args[0]}") from None
    except (TypeError, ValueError):
        raise KeyRejected("vertex_credentials hold no RSA key that can be read") from None


async def _asked(client: httpx.AsyncClient, method: str, url: str, **more: Any) -> httpx.Response:
    async with client:
        try:
            answer = await client.request(method, url, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderUnavailable(f"Google sign-in failed: {type(error).__name__}") from None
    if answer.status_code == 200:
        return answer
    kind = KeyRejected if 400 <= answer.status_code < 500 else ProviderUnavailable
    raise kind(f"Google sign-in failed: HTTP {answer.status_code}")


def _login_from(answer: httpx.Response, project: str | None) -> tuple[Login, float]:
    try:
        fields = answer.json()
        return Login(project, str(fields["access_token"])), float(fields["expires_in"])
    except (ValueError, KeyError, TypeError):
        raise ProviderUnavailable("Google sign-in failed: no token in the answer") from None
