"""What was spent, for whom, and on which requests; dollars outside, pico-dollars inside."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from embedpool_api.accounts.kept import Spent
from embedpool_api.accounts.listing import Page, Spender
from embedpool_api.accounts.money import in_dollars
from embedpool_api.accounts.spend_log import Wanted
from embedpool_api.accounts.spend_rows import Row
from embedpool_api.callers import Caller
from embedpool_api.routes.admin import AdminParts, anybody, reader
from embedpool_shared.accounts import AccountKind, account_name
from embedpool_shared.errors import BadRequest, RouteNotAllowed

NEXT = "x-embedpool-next-after"
"""Header: the cursor that leads to the next page of the log; absent on the last one."""


class Spending(BaseModel):
    """What was spent in somebody's name, ever."""

    spend: float = Field(description="Dollars.")
    total_tokens: int
    requests: int
    used: int
    paid: int
    saved: int
    waste: int


class KeySpending(Spending):
    """A key's spending; of a deleted key, only the id."""

    token_id: str
    token: str | None = None
    key_name: str | None = None
    key_alias: str | None = None
    team_id: str | None = None
    user_id: str | None = None


class TeamSpending(Spending):
    """A team's spending."""

    team_id: str
    team_alias: str | None = None


class UserSpending(Spending):
    """A user's spending."""

    user_id: str
    user_alias: str | None = None
    user_email: str | None = None


class TagSpending(Spending):
    """A tag's spending, also under LiteLLM's names."""

    individual_request_tag: str
    log_count: int
    total_spend: float


class PoolSpending(Spending):
    """Everybody's spending."""

    max_budget: float | None = None


class PageQuery(BaseModel):
    """Which page of the spenders, the greatest first."""

    page: int = Field(1, ge=1, le=1_000_000)
    size: int = Field(100, ge=1, le=1_000)


class LogQuery(BaseModel):
    """Which usage records."""

    api_key: str | None = Field(None, description="The key itself, its token or its token_id.")
    user_id: str | None = None
    team_id: str | None = None
    end_user: str | None = None
    request_id: str | None = None
    model: str | None = None
    start_date: str | None = Field(None, examples=["2025-01-31"])
    end_date: str | None = Field(None, description="That day included.", examples=["2025-01-31"])
    limit: int = Field(100, ge=1, le=1_000)
    after: str | None = Field(None, description=f"The header {NEXT} of the page before.")
    format: Literal["json", "jsonl"] = Field(
        "json", description="jsonl is all of them, oldest first."
    )


class SpendRoutes:
    """The handlers."""

    def __init__(self, parts: AdminParts) -> None:
        """Answer out of `parts`."""
        self._parts = parts
        self._accounts = parts.accounts

    async def keys(
        self, request: Request, asked: Annotated[PageQuery, Query()]
    ) -> list[KeySpending]:
        """List what keys spent."""
        await reader(self._parts, request)
        page = await self._spenders(AccountKind.KEY, asked)
        kept = await self._accounts.keys.records.find_all([one.id for one in page.rows])
        return [
            KeySpending(
                token_id=one.id,
                token=found and found.record.digest,
                key_name=found and found.record.name,
                key_alias=found and found.record.alias,
                team_id=found and found.record.team_id,
                user_id=found and found.record.user_id,
                **_spending(one.spent),
            )
            for one, found in zip(page.rows, kept, strict=True)
        ]

    async def teams(
        self, request: Request, asked: Annotated[PageQuery, Query()]
    ) -> list[TeamSpending]:
        """List what teams spent."""
        await reader(self._parts, request)
        page = await self._spenders(AccountKind.TEAM, asked)
        kept = await self._accounts.teams.find_all([one.id for one in page.rows])
        return [
            TeamSpending(
                team_id=one.id, team_alias=found and found.record.alias, **_spending(one.spent)
            )
            for one, found in zip(page.rows, kept, strict=True)
        ]

    async def users(
        self, request: Request, asked: Annotated[PageQuery, Query()]
    ) -> list[UserSpending]:
        """List what users spent."""
        await reader(self._parts, request)
        page = await self._spenders(AccountKind.USER, asked)
        kept = await self._accounts.users.find_all([one.id for one in page.rows])
        return [
            UserSpending(
                user_id=one.id,
                user_alias=found and found.record.alias,
                user_email=found and found.record.email,
                **_spending(one.spent),
            )
            for one, found in zip(page.rows, kept, strict=True)
        ]

    async def tags(
        self, request: Request, asked: Annotated[PageQuery, Query()]
    ) -> list[TagSpending]:
        """List what was spent under tags."""
        await reader(self._parts, request)
        page = await self._spenders(AccountKind.TAG, asked)
        return [
            TagSpending(
                individual_request_tag=one.id,
                log_count=one.spent.requests,
                total_spend=in_dollars(one.spent.cost_pico_usd),
                **_spending(one.spent),
            )
            for one in page.rows
        ]

    async def everybody(self, request: Request) -> PoolSpending:
        """Say what everybody spent together."""
        await reader(self._parts, request)
        spent = await self._accounts.listing.spent(AccountKind.GLOBAL, "all")
        return PoolSpending(**_spending(spent))

    async def logs(self, request: Request, asked: Annotated[LogQuery, Query()]) -> Response:
        """List usage records, the newest first; the holder of a virtual key sees its own."""
        caller = await anybody(self._parts, request)
        wanted = await self._wanted(caller, asked)
        if asked.format == "jsonl":
            return await self._exported(wanted)
        page = await self._parts.spend_log.page(wanted, limit=asked.limit, after=asked.after)
        body = orjson.dumps([row.shown() for row in page.rows])
        headers = {} if page.after is None else {NEXT: page.after}
        return Response(body, media_type="application/json", headers=headers)

    async def _exported(self, wanted: Wanted) -> Response:
        steps = self._parts.spend_log.everything(wanted)
        first = await anext(steps)  # so that a Redis that is away is a 503, not half an answer
        return StreamingResponse(_lines(first, steps), media_type="application/jsonl")

    async def _wanted(self, caller: Caller, asked: LogQuery) -> Wanted:
        accounts = {
            account_name(kind, account_id)
            for kind, account_id in (
                (AccountKind.USER, asked.user_id),
                (AccountKind.TEAM, asked.team_id),
                (AccountKind.END_USER, asked.end_user),
                (AccountKind.KEY, await self._key_id(caller, asked.api_key)),
            )
            if account_id
        }
        return Wanted(
            accounts=frozenset(accounts),
            request_id=asked.request_id or None,
            model=asked.model or None,
            from_ms=_ms(asked.start_date, "start_date", time.min),
            until_ms=_ms(asked.end_date, "end_date", time.max),
        )

    async def _key_id(self, caller: Caller, named: str | None) -> str | None:
        """Say whose records may be seen; None is everybody's."""
        own = caller.identity.key.id if caller.identity else None
        found = await self._accounts.keys.id_of(named) if named else None
        if own is not None and found not in {own, None}:
            raise RouteNotAllowed("Only the master key may look at other keys' records")
        if named and found is None:
            raise self._accounts.keys.records.unknown("")
        return own or found

    async def _spenders(self, kind: AccountKind, asked: PageQuery) -> Page[Spender]:
        return await self._accounts.listing.spenders(kind, number=asked.page, size=asked.size)


def spend_router(parts: AdminParts) -> APIRouter:
    """Make the routes about spend."""
    router = APIRouter(tags=["spend"])
    routes = SpendRoutes(parts)
    router.add_api_route("/spend/keys", routes.keys, summary="What keys spent")
    router.add_api_route("/spend/teams", routes.teams, summary="What teams spent")
    router.add_api_route("/spend/users", routes.users, summary="What users spent")
    router.add_api_route("/spend/tags", routes.tags, summary="What was spent under tags")
    router.add_api_route("/spend/logs", routes.logs, summary="Usage records")
    router.add_api_route("/global/spend", routes.everybody, summary="What everybody spent")
    return router


async def _lines(first: Sequence[Row], rest: AsyncIterator[list[Row]]) -> AsyncIterator[bytes]:
    yield _jsonl(first)
    async for rows in rest:
        yield _jsonl(rows)


def _jsonl(rows: Sequence[Row]) -> bytes:
    return b"".join(orjson.dumps(row.shown(), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _spending(spent: Spent) -> dict[str, Any]:
    return {
        "spend": in_dollars(spent.cost_pico_usd),
        "total_tokens": spent.used,
        "requests": spent.requests,
        "used": spent.used,
        "paid": spent.paid,
        "saved": spent.saved,
        "waste": spent.waste,
    }


def _ms(text: str | None, param: str, of_day: time) -> int | None:
    """Read a day or an instant, in UTC unless it says otherwise."""
    if not text:
        return None
    try:
        if len(text) == len("2025-01-31"):
            at = datetime.combine(date.fromisoformat(text), of_day, UTC)
        else:
            at = datetime.fromisoformat(text)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return max(0, int(at.timestamp() * 1_000))
    except (ValueError, OverflowError):
        raise BadRequest(
            f"`{param}` should be a day like 2025-01-31, or an instant in ISO 8601", param=param
        ) from None
