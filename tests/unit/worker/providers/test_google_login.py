from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from typing_extensions import override

from embedpool_shared.errors import KeyRejected, ProviderError, ProviderUnavailable
from embedpool_worker.providers.google_login import TOKEN_URI, GoogleLogin, Login
from support.foreign_cases import google_account, rsa_key

if TYPE_CHECKING:
    from collections.abc import Callable

USER: Final = {
    "type": "authorized_user",
    "client_id": "id",
    "client_secret": "secret-1",
    "refresh_token": "refresh-1",
    "quota_project_id": "users-project",
}
TOKEN: Final = {"access_token": "ya29.x", "expires_in": 3_600}


class Google(httpx.AsyncBaseTransport):
    """Hands out tokens, and remembers who asked for one."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self._answer = answer or (lambda _: httpx.Response(200, json=TOKEN))
        self.requests: list[httpx.Request] = []

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self)


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor the home of whoever runs the tests holds credentials."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def logins(credentials: str | None, google: Google, *, times: int = 1) -> list[Login]:
    async def run() -> list[Login]:
        way_in = GoogleLogin(credentials, google.client, google.client)
        return await asyncio.gather(*(way_in.login() for _ in range(times)))

    return asyncio.run(run())


def test_a_service_account_is_exchanged_for_a_token_at_its_own_address() -> None:
    google = Google()

    [login] = logins(google_account("http://iam"), google)

    assert login == Login("p", "ya29.x")
    [request] = google.requests
    assert str(request.url) == "http://iam/token"


def test_its_word_is_signed_with_its_key() -> None:
    google = Google()
    logins(google_account("http://iam"), google)

    sent = dict(part.split("=", 1) for part in google.requests[0].content.decode().split("&"))
    said, _, signature = sent["assertion"].rpartition(".")
    key = serialization.load_pem_private_key(rsa_key().encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    key.public_key().verify(
        base64.urlsafe_b64decode(signature + "=="),
        said.encode(),
        padding.PKCS1v15(),
        hashes.SHA256(),
    )
    claims = json.loads(base64.urlsafe_b64decode(said.split(".")[1] + "=="))
    assert claims["aud"] == "http://iam/token"
    assert claims["exp"] - claims["iat"] == 3_600


def test_a_users_own_login_is_refreshed(tmp_path: Path) -> None:
    file = tmp_path / "user.json"
    file.write_text(json.dumps(USER))
    google = Google()

    [login] = logins(str(file), google)

    assert login == Login("users-project", "ya29.x")
    assert str(google.requests[0].url) == TOKEN_URI
    assert b"refresh_token=refresh-1" in google.requests[0].content


@pytest.mark.parametrize("how", ["environment", "home"])
def test_credentials_are_found_where_googles_tools_leave_them(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".config/gcloud/application_default_credentials.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(USER))
    if how == "environment":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        monkeypatch.setenv("HOME", "/nowhere")

    [login] = logins(None, Google())

    assert login.project == "users-project"


def test_on_one_of_googles_machines_the_machine_knows() -> None:
    def metadata(request: httpx.Request) -> httpx.Response:
        assert request.headers["metadata-flavor"] == "Google"
        if request.url.path.endswith("/project-id"):
            return httpx.Response(200, text="machines-project")
        return httpx.Response(200, json=TOKEN)

    google = Google(metadata)

    [login] = logins(None, google)

    assert login == Login("machines-project", "ya29.x")
    assert {request.url.host for request in google.requests} == {"metadata.google.internal"}


def test_a_token_is_asked_for_once_however_many_wait() -> None:
    google = Google()

    assert len(set(logins(google_account("http://iam"), google, times=20))) == 1
    assert len(google.requests) == 1


def test_a_token_that_runs_out_soon_is_asked_for_again() -> None:
    google = Google(lambda _: httpx.Response(200, json={**TOKEN, "expires_in": 60}))

    logins(google_account("http://iam"), google, times=2)

    assert len(google.requests) == 2


@pytest.mark.parametrize(
    ("credentials", "kind", "said"),
    [
        ("/no/such/file", KeyRejected, "FileNotFoundError"),
        ("{", KeyRejected, "JSONDecodeError"),
        ('{"type": "external_account"}', KeyRejected, "external_account"),
        ('{"type": "authorized_user"}', KeyRejected, "client_id"),
        ('{"type": "service_account"}', KeyRejected, "private_key"),
        ('{"type": "service_account", "private_key": "x"}', KeyRejected, "RSA"),
    ],
)
def test_credentials_that_are_none_are_named(
    credentials: str, kind: type[ProviderError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        logins(credentials, Google())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(400, json={"error": "invalid_grant"}), KeyRejected),
        (httpx.Response(503), ProviderUnavailable),
        (httpx.Response(200, text="<html>"), ProviderUnavailable),
        (httpx.Response(200, json=[]), ProviderUnavailable),
        (httpx.Response(302, headers={"location": "http://evil"}), ProviderUnavailable),
    ],
    ids=["refused", "away", "no JSON", "no token", "redirect"],
)
def test_a_failed_sign_in_is_an_error_of_ours_without_the_credential(
    answer: httpx.Response, kind: type[ProviderError]
) -> None:
    with pytest.raises(kind) as caught:
        logins(json.dumps(USER), Google(lambda _: answer))

    assert "secret-1" not in str(caught.value)
    assert "secret-1" not in repr(GoogleLogin(json.dumps(USER), _nobody, _nobody))


def test_a_lost_connection_is_unavailable() -> None:
    def lost(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    with pytest.raises(ProviderUnavailable, match="ConnectError"):
        logins(json.dumps(USER), Google(lost))


def _nobody() -> Any:
    raise AssertionError("nobody is asked")
