"""Teams: made, shown, changed, blocked, deleted; their limits bound all their keys."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from embedpool_api.accounts.credentials import new_id
from embedpool_api.accounts.foreign_fields import refuse_foreign
from embedpool_api.routes.account_answers import KeyObject, TeamObject, shown_key, shown_team
from embedpool_api.routes.admin import AdminParts, administrator
from embedpool_api.routes.bodies import (
    AdminBody,
    Metadata,
    Models,
    Name,
    OptionalName,
    Sharing,
    Tags,
    body_of,
    described,
)
from embedpool_api.routes.limit_fields import LimitFields
from embedpool_shared.accounts import TeamRecord

IDLE = frozenset({"soft_budget"})
"""LiteLLM warns at it; it bounds nothing."""


class TeamFields(LimitFields):
    """What can be said of a team; absent is as before, null is none."""

    team_alias: OptionalName = None
    models: Models | None = Field(None, description="Names and patterns; none is all models.")
    metadata: Metadata | None = None
    tags: Tags | None = Field(None, description="Under which its keys' spend is counted as well.")
    blocked: bool | None = None
    share_across: Sharing = Field(None, description="Whose texts may share a call with its own.")

    def edited(self, record: TeamRecord, _: float = 0.0) -> TeamRecord:
        """Apply what was given to a record; raises `BadRequest`."""
        given = self.model_fields_set
        changes: dict[str, Any] = {}
        if "team_alias" in given:
            changes["alias"] = self.team_alias
        if "models" in given:
            changes["models"] = tuple(self.models or ())
        if "tags" in given:
            changes["tags"] = tuple(self.tags or ())
        if "metadata" in given:
            changes["metadata"] = self.metadata or {}
        if "share_across" in given:
            changes["share_across"] = self.share_across
        if self.blocked is not None:
            changes["is_blocked"] = self.blocked
        return msgspec.structs.replace(record, limits=self.limits(record.limits), **changes)

    def checked(self) -> None:
        """Raise `BadRequest` for a field that embedpool cannot keep to or does not know."""
        refuse_foreign(self.model_extra or {}, type(self).model_fields, idle=IDLE)


class NewTeamBody(TeamFields):
    """POST /team/new."""

    team_id: OptionalName = Field(None, description="Without one it is made.")


class TeamUpdateBody(TeamFields):
    """POST /team/update."""

    team_id: Name


class OneTeamBody(AdminBody):
    """POST /team/block and /team/unblock."""

    team_id: Name


class DeleteTeamsBody(AdminBody):
    """POST /team/delete."""

    team_ids: Annotated[list[Name], Field(min_length=1, max_length=100)]


class TeamChange(BaseModel):
    """A team after a change."""

    team_id: str
    data: TeamObject


class TeamInfo(BaseModel):
    """A team and its keys."""

    team_id: str
    team_info: TeamObject
    keys: list[KeyObject]
    team_memberships: list[dict[str, Any]] = []


class DeletedTeams(BaseModel):
    """Which teams are gone."""

    deleted_teams: list[str]


class TeamQuery(BaseModel):
    """Which teams to list."""

    page: int = Field(1, ge=1, le=1_000_000)
    page_size: int = Field(100, ge=1, le=1_000)
    team_id: str | None = None
    team_alias: str | None = None

    def wants(self, record: TeamRecord) -> bool:
        """Say whether a team is to be listed."""
        return (not self.team_id or record.id == self.team_id) and (
            not self.team_alias or record.alias == self.team_alias
        )


class TeamRoutes:
    """The handlers."""

    def __init__(self, parts: AdminParts) -> None:
        """Answer out of `parts`."""
        self._parts = parts
        self._accounts = parts.accounts
        self._teams = parts.accounts.teams

    async def new(self, request: Request) -> TeamObject:
        """Make a team."""
        await administrator(self._parts, request)
        body = await body_of(request, NewTeamBody)
        body.checked()
        made = await self._teams.create(body.edited(TeamRecord(id=body.team_id or new_id())))
        self._accounts.changed()
        return shown_team(made)

    async def update(self, request: Request) -> TeamChange:
        """Change what is named; what is absent stays, null is none."""
        await administrator(self._parts, request)
        body = await body_of(request, TeamUpdateBody)
        body.checked()
        changed = await self._changed(body.team_id, body)
        return TeamChange(team_id=body.team_id, data=changed)

    async def block(self, request: Request) -> TeamObject:
        """Refuse all keys of a team until it is unblocked."""
        return await self._blocked(request, is_blocked=True)

    async def unblock(self, request: Request) -> TeamObject:
        """Let a blocked team's keys in again."""
        return await self._blocked(request, is_blocked=False)

    async def delete(self, request: Request) -> DeletedTeams:
        """Delete teams and all their keys, for good."""
        await administrator(self._parts, request)
        body = await body_of(request, DeleteTeamsBody)
        for team_id in dict.fromkeys(body.team_ids):
            was_there = await self._accounts.delete_team(team_id)
            self._accounts.changed()
            if not was_there:
                raise self._teams.unknown(team_id)
        return DeletedTeams(deleted_teams=body.team_ids)

    async def info(self, request: Request, team_id: str) -> TeamInfo:
        """Look at a team and its keys."""
        await administrator(self._parts, request)
        team = shown_team(await self._teams.get(team_id))
        keys = await self._accounts.keys_of(lambda key: key.team_id == team_id)
        return TeamInfo(team_id=team_id, team_info=team, keys=[shown_key(key) for key in keys])

    async def listed(
        self, request: Request, asked: Annotated[TeamQuery, Query()]
    ) -> list[TeamObject]:
        """List teams, the youngest first."""
        await administrator(self._parts, request)
        found = await self._accounts.listing.page(
            self._teams, asked.wants, number=asked.page, size=asked.page_size
        )
        return [shown_team(team) for team in found.rows]

    async def _blocked(self, request: Request, *, is_blocked: bool) -> TeamObject:
        await administrator(self._parts, request)
        body = await body_of(request, OneTeamBody)
        return await self._changed(body.team_id, TeamFields(blocked=is_blocked))

    async def _changed(self, team_id: str, fields: TeamFields) -> TeamObject:
        _, changed = await self._teams.change(team_id, fields.edited)
        self._accounts.changed()
        return shown_team(changed)


def teams_router(parts: AdminParts) -> APIRouter:
    """Make the routes about teams."""
    router = APIRouter(tags=["teams"])
    routes = TeamRoutes(parts)

    def post(path: str, handler: Any, summary: str, body: type[BaseModel]) -> None:
        extra = described(body)
        router.add_api_route(path, handler, methods=["POST"], summary=summary, openapi_extra=extra)

    post("/team/new", routes.new, "Make a team", NewTeamBody)
    post("/team/update", routes.update, "Change a team", TeamUpdateBody)
    post("/team/delete", routes.delete, "Delete teams and their keys", DeleteTeamsBody)
    post("/team/block", routes.block, "Block a team", OneTeamBody)
    post("/team/unblock", routes.unblock, "Let a team in again", OneTeamBody)
    router.add_api_route("/team/info", routes.info, summary="Look at a team")
    router.add_api_route("/team/list", routes.listed, summary="List teams")
    return router
