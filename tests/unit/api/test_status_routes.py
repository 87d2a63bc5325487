"""Who may see the pool's state over HTTP, and what a browser is told to do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI

from embedpool_api.callers import Caller, Gate
from embedpool_api.middleware import Edge
from embedpool_api.routes.status import StatusParts, status_router
from embedpool_api.status.collector import Look
from embedpool_api.status.logins import MAX_TRIES
from embedpool_api.status.sessions import COOKIE, LIFE_S, Sessions
from embedpool_shared.accounts import Identity
from embedpool_shared.sealing import Secrets
from unit.api.identities import identity

MASTER: Final = "sk-the-master-key-of-this-test"
OF_A_CALLER: Final = b"sk-ep-of-a-caller"
SECRETS: Final = Secrets("a secret that is long enough")
POOL: Final = {"keys": [{"id": "k", "key": "…abcd"}], "lanes": [{"name": "m"}]}
NOW: Final = 1_800_000_000.0


async def seen() -> Look:
    return Look(snapshot=POOL, age_s=0.44, is_redis_away=False)


async def find(credential: bytes) -> Identity | None:
    return identity() if credential == OF_A_CALLER else None


def holder(credential: bytes, address: str) -> Caller | None:
    del address
    return Caller(account="passthrough:x", credential=credential)


class Browser:
    """A client that keeps cookies as a browser does, and an api process with a clock of its own."""

    def __init__(self, *, master_key: str | None = MASTER, passthrough: bool = False) -> None:
        self.now_s = NOW
        self.look: Callable[[], Awaitable[Look]] = seen
        gate = Gate(master_key, find=find, own_key_holder=holder if passthrough else None)
        parts = StatusParts(
            look=self._seen,
            identify=gate.identify,
            sessions=Sessions(master_key, SECRETS) if master_key else None,
            version="1.2.3",
            unix_s=lambda: self.now_s,
        )
        app = FastAPI()
        app.include_router(status_router(parts))
        self.app = Edge(app)
        self.cookies = httpx.Cookies()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=("192.0.2.1", 5))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost", cookies=self.cookies
            ) as client:
                response = await client.request(method, path, **more)
                self.cookies = client.cookies
                return response

        return asyncio.run(main())

    async def _seen(self) -> Look:
        return await self.look()

    def login(self, key: str = MASTER, **headers: str) -> httpx.Response:
        return self.ask("POST", "/pool/login", json={"master_key": key}, headers=headers)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_shell_is_for_anybody_and_the_data_is_not() -> None:
    browser = Browser()

    assert browser.ask("GET", "/").status_code == 200
    assert browser.ask("GET", "/pool/page.js").status_code == 200
    assert browser.ask("GET", "/pool/page.css").status_code == 200
    for path in ("/pool/status", "/pool/keys"):
        refused = browser.ask("GET", path)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"


def test_the_master_key_opens_the_data() -> None:
    browser = Browser()

    answer = browser.ask("GET", "/pool/status", headers=bearer(MASTER))

    assert answer.json() == {
        "redis": "ok", "age_s": 0.4, "version": "1.2.3", "login": True, "pool": POOL,
    }  # fmt: skip
    assert browser.ask("GET", "/pool/keys", headers=bearer(MASTER)).json() == {
        "redis": "ok", "age_s": 0.4, "keys": POOL["keys"],
    }  # fmt: skip


def test_a_virtual_key_does_not() -> None:
    refused = Browser().ask("GET", "/pool/status", headers=bearer(OF_A_CALLER.decode()))

    assert refused.status_code == 403
    assert "lanes" not in refused.text


@pytest.mark.parametrize("master_key", [MASTER, None])
def test_a_callers_own_provider_key_does_not(master_key: str | None) -> None:
    browser = Browser(master_key=master_key, passthrough=True)

    assert browser.ask("GET", "/pool/status", headers=bearer("sk-of-a-provider")).status_code == 403


def test_who_logged_in_may_look_for_some_hours() -> None:
    browser = Browser()

    assert browser.login().status_code == 204
    assert browser.ask("GET", "/pool/status").status_code == 200
    assert browser.ask("GET", "/pool/keys").status_code == 200
    cookie = browser.cookies[COOKIE]
    browser.now_s += LIFE_S

    assert browser.ask("GET", "/pool/status", headers={"cookie": f"{COOKIE}={cookie}"}).is_error


def test_the_cookie_is_kept_from_scripts_and_other_sites() -> None:
    said = Browser().login().headers["set-cookie"]

    assert all(word in said for word in ("; HttpOnly", "; SameSite=Strict", "; Path=/pool"))
    assert "Secure" not in said
    assert MASTER not in said


def test_over_https_the_cookie_travels_by_https_alone() -> None:
    said = Browser().login(**{"x-forwarded-proto": "https"}).headers["set-cookie"]

    assert said.endswith("; Secure")


def test_who_logs_out_has_no_cookie_any_more() -> None:
    browser = Browser()
    browser.login()

    assert browser.ask("POST", "/pool/logout").status_code == 204

    assert COOKIE not in browser.cookies
    assert browser.ask("GET", "/pool/status").status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_the_cookie_changes_nothing(method: str) -> None:
    browser = Browser()
    browser.login()

    assert browser.ask(method, "/pool/status").status_code == 405
    assert browser.ask(method, "/pool/keys").status_code == 405


@pytest.mark.parametrize("key", ["sk-a-wrong-key", "", OF_A_CALLER.decode(), f"{MASTER}x"])
def test_no_other_key_logs_in(key: str) -> None:
    refused = Browser().login(key)

    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers
    assert refused.json()["error"]["message"] == "This is not the master key"


def test_guessing_is_stopped_and_told_when_to_go_on() -> None:
    browser = Browser()
    statuses = [browser.login("sk-wrong").status_code for _ in range(MAX_TRIES)]

    stopped = browser.login()

    assert statuses == [401] * MAX_TRIES
    assert stopped.status_code == 429
    assert 0 < int(stopped.headers["retry-after"]) <= 60
    browser.now_s += int(stopped.headers["retry-after"])
    assert browser.login().status_code == 204


def test_a_key_that_is_right_does_not_use_up_tries() -> None:
    browser = Browser()

    assert {browser.login().status_code for _ in range(3 * MAX_TRIES)} == {204}


@pytest.mark.parametrize("path", ["/pool/login", "/pool/logout"])
def test_another_sites_page_logs_nobody_in_or_out(path: str) -> None:
    browser = Browser()

    refused = browser.ask(
        "POST", path, json={"master_key": MASTER}, headers={"origin": "http://evil.example"}
    )

    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{}", b'"x"', b"{", b"\xff", b"master_key=sk-x"]
)
def test_a_body_that_is_no_login_is_told_what_one_is(body: bytes) -> None:
    refused = Browser().ask("POST", "/pool/login", content=body)

    assert refused.status_code == 400
    assert "master_key" in refused.json()["error"]["message"]


def test_a_long_body_is_not_read() -> None:
    refused = Browser().ask("POST", "/pool/login", content=b" " * 10_000)

    assert refused.status_code == 413


@pytest.mark.parametrize("path", ["/pool/status", "/pool/keys", "/pool/login"])
def test_nobody_keeps_what_only_some_may_see(path: str) -> None:
    browser = Browser()
    browser.login()
    method = "POST" if path.endswith("login") else "GET"

    for answer in (browser.ask(method, path), Browser().ask(method, path)):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_open_mode_shows_this_machine_everything_without_a_login() -> None:
    answer = Browser(master_key=None).ask("GET", "/pool/status")

    assert answer.status_code == 200
    assert answer.json()["login"] is False


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "pool.example"},
        {"x-forwarded-for": "192.0.2.7"},
        {"forwarded": "for=192.0.2.7"},
        {"origin": "http://evil.example"},
    ],
)
def test_open_mode_shows_strangers_nothing(headers: dict[str, str]) -> None:
    answer = Browser(master_key=None).ask("GET", "/pool/status", headers=headers)

    assert answer.status_code == 401
    assert "lanes" not in answer.text


def test_in_open_mode_there_is_nothing_to_log_in_to() -> None:
    browser = Browser(master_key=None)

    assert browser.login().status_code == 400
    forged = Sessions(MASTER, SECRETS).begin(now_s=NOW, nonce="n")
    headers = {"cookie": f"{COOKIE}={forged}", "host": "pool.example"}
    assert browser.ask("GET", "/pool/status", headers=headers).status_code == 401


def test_while_redis_is_away_the_last_look_is_shown_as_old() -> None:
    async def away() -> Look:
        return Look(snapshot=POOL, age_s=61.23, is_redis_away=True)

    browser = Browser(master_key=None)
    browser.look = away

    answer = browser.ask("GET", "/pool/status").json()

    assert (answer["redis"], answer["age_s"], answer["pool"]) == ("away", 61.2, POOL)


def test_before_anything_was_seen_there_is_nothing_to_show() -> None:
    async def never() -> Look:
        return Look(snapshot=None, age_s=None, is_redis_away=True)

    browser = Browser(master_key=None)
    browser.look = never

    assert browser.ask("GET", "/pool/status").json()["pool"] is None
    assert browser.ask("GET", "/pool/keys").json() == {"redis": "away", "age_s": None, "keys": []}


def test_a_browser_that_has_a_file_is_not_sent_it_again() -> None:
    browser = Browser()
    tag = browser.ask("GET", "/").headers["etag"]

    again = browser.ask("GET", "/", headers={"if-none-match": tag})

    assert (again.status_code, again.content) == (304, b"")
