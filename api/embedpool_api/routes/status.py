"""The status page: a shell for anybody, and what it shows for whoever may see it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from embedpool_api.callers import Caller, require_own
from embedpool_api.errors import error_body
from embedpool_api.middleware import HEADERS, REQUEST_ID, read_body
from embedpool_api.status.collector import Look
from embedpool_api.status.logins import Logins
from embedpool_api.status.origins import is_by_https, refuse_other_sites
from embedpool_api.status.page_files import PRIVATE, SHELL, PageFile, page_files
from embedpool_api.status.sessions import COOKIE, PATH, Sessions, cookie_header
from embedpool_shared.errors import (
    BadRequest,
    EmbedPoolError,
    InvalidApiKey,
    RateLimited,
    RouteNotAllowed,
)

MAX_LOGIN_BYTES = 8 * 1024
NONCE_BYTES = 12


def _unix_s() -> float:
    return datetime.now(UTC).timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusParts:
    """The running pieces behind the status page."""

    look: Callable[[], Awaitable[Look]]
    """Says what the pool looks like; `Collector.look` is one."""
    identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]]
    """Tells the caller by its headers; `Gate.identify` is one."""
    sessions: Sessions | None
    """None without a master key: then nobody logs in, and this machine may look."""
    version: str = "0"
    logins: Logins = field(default_factory=Logins)
    unix_s: Callable[[], float] = _unix_s


def status_router(parts: StatusParts) -> APIRouter:
    """Make the routes of the status page."""
    router = APIRouter(tags=["operations"])
    files = page_files()

    def serve(path: str, name: str) -> None:
        async def send(request: Request) -> Response:
            return _sent(files[name], request)

        router.add_api_route(path, send, methods=["GET", "HEAD"], include_in_schema=False)

    serve("/", SHELL)
    for name in files.keys() - {SHELL}:
        serve(f"{PATH}/{name}", name)

    @router.get(f"{PATH}/status", summary="See the pool as it is now")
    async def status(request: Request) -> Response:
        """Show lanes, batches, provider keys, processes and the last failures.

        For the master key, or who logged in to the status page; without a master key, for this
        machine. While Redis is away it is what was seen last, `age_s` ago.
        """
        return await _answered(parts, request, lambda look: _status(look, parts))

    @router.get(f"{PATH}/keys", summary="See the health of the provider keys")
    async def keys(request: Request) -> Response:
        """Show what all workers know of each provider key; secrets are masked."""
        return await _answered(parts, request, _keys)

    @router.post(f"{PATH}/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        return await _private(request, _login(parts, request))

    @router.post(f"{PATH}/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        return await _private(request, _logout(request))

    return router


def _sent(file: PageFile, request: Request) -> Response:
    is_known = request.headers.get("if-none-match") == file.headers["etag"]
    body = b"" if is_known else file.body
    status = 304 if is_known else 200
    return Response(body, status, headers=dict(file.headers), media_type=file.media_type)


async def _answered(
    parts: StatusParts, request: Request, shown: Callable[[Look], dict[str, Any]]
) -> Response:
    async def answer() -> Response:
        await _let_in(parts, request)
        content = orjson.dumps(shown(await parts.look()))
        return Response(content, media_type="application/json")

    return await _private(request, answer())


async def _private(request: Request, answer: Awaitable[Response]) -> Response:
    """Answer so that nobody keeps it, refusals too."""
    try:
        response = await answer
    except EmbedPoolError as error:
        status, headers, body = error_body(error, request_id=request.scope[REQUEST_ID])
        response = Response(body, status)
        response.raw_headers = headers
    response.headers.update(PRIVATE)
    return response


async def _let_in(parts: StatusParts, request: Request) -> None:
    """Raise `RouteNotAllowed` or `InvalidApiKey` for whoever may not look."""
    cookie, sessions = request.cookies.get(COOKIE), parts.sessions
    if sessions and cookie and sessions.is_open(cookie, now_s=parts.unix_s()):
        return
    caller = await parts.identify(request.scope[HEADERS])
    require_own(caller)
    if sessions and not caller.is_admin:
        raise RouteNotAllowed("Only the master key may use this route")


async def _login(parts: StatusParts, request: Request) -> Response:
    headers, sessions = request.scope[HEADERS], parts.sessions
    refuse_other_sites(headers)
    if sessions is None:
        raise BadRequest("There is no master key, so there is nothing to log in to")
    address = request.client.host if request.client else ""
    wait_s = parts.logins.wait_s(address, now=parts.unix_s())
    if wait_s > 0:
        raise RateLimited("Too many tries to log in; wait a minute", retry_after_s=wait_s)
    given = _key_in(await read_body(request.receive, headers, max_bytes=MAX_LOGIN_BYTES))
    if not sessions.is_master(given):
        raise InvalidApiKey("This is not the master key")
    parts.logins.forget(address)
    cookie = sessions.begin(now_s=parts.unix_s(), nonce=token_urlsafe(NONCE_BYTES))
    return _with_cookie(cookie, request)


async def _logout(request: Request) -> Response:
    refuse_other_sites(request.scope[HEADERS])
    return _with_cookie("", request)


def _with_cookie(cookie: str, request: Request) -> Response:
    is_secure = is_by_https(request.scope["scheme"], request.scope[HEADERS])
    return Response(
        status_code=204, headers={"set-cookie": cookie_header(cookie, is_secure=is_secure)}
    )


def _key_in(body: bytes) -> bytes:
    try:
        given = orjson.loads(body)["master_key"]
        return str(given).strip().encode()
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise BadRequest('The body should be {"master_key": "…"}') from None


def _status(look: Look, parts: StatusParts) -> dict[str, Any]:
    about = {"version": parts.version, "login": parts.sessions is not None}
    return {**_seen(look), **about, "pool": look.snapshot}


def _keys(look: Look) -> dict[str, Any]:
    return {**_seen(look), "keys": look.snapshot["keys"] if look.snapshot else []}


def _seen(look: Look) -> dict[str, Any]:
    age_s = None if look.age_s is None else round(look.age_s, 1)
    return {"redis": "away" if look.is_redis_away else "ok", "age_s": age_s}
