"""Users: made, shown, changed, deleted; their limits bound all their keys.

A user has no key until one is made for it: a key is shown where it is made, and nowhere else.
"""

import math
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from embedpool_api.accounts.credentials import new_id
from embedpool_api.accounts.foreign_fields import refuse_foreign
from embedpool_api.routes.account_answers import KeyObject, UserObject, shown_key, shown_user
from embedpool_api.routes.admin import AdminParts, administrator
from embedpool_api.routes.bodies import (
    AdminBody,
    Metadata,
    Models,
    Name,
    OptionalName,
    body_of,
    described,
)
from embedpool_api.routes.limit_fields import LimitFields
from embedpool_shared.accounts import UserRecord

IDLE = frozenset({"duration", "key_alias", "tags", "team_id"})
"""What LiteLLM would give to the key that it makes along with a user."""


class UserFields(LimitFields):
    """What can be said of a user; absent is as before, null is none."""

    user_alias: OptionalName = None
    user_email: OptionalName = None
    models: Models | None = Field(None, description="Names and patterns; none is all models.")
    metadata: Metadata | None = None
    blocked: bool | None = None

    def edited(self, record: UserRecord, _: float = 0.0) -> UserRecord:
        """Apply what was given to a record; raises `BadRequest`."""
        given = self.model_fields_set
        changes: dict[str, Any] = {}
        if "user_alias" in given:
            changes["alias"] = self.user_alias
        if "user_email" in given:
            changes["email"] = self.user_email
        if "models" in given:
            changes["models"] = tuple(self.models or ())
        if "metadata" in given:
            changes["metadata"] = self.metadata or {}
        if self.blocked is not None:
            changes["is_blocked"] = self.blocked
        return msgspec.structs.replace(record, limits=self.limits(record.limits), **changes)

    def checked(self) -> None:
        """Raise `BadRequest` for a field that embedpool cannot keep to or does not know."""
        refuse_foreign(self.model_extra or {}, type(self).model_fields, idle=IDLE)


class NewUserBody(UserFields):
    """POST /user/new."""

    user_id: OptionalName = Field(None, description="Without one it is made.")


class UserUpdateBody(UserFields):
    """POST /user/update."""

    user_id: Name


class DeleteUsersBody(AdminBody):
    """POST /user/delete."""

    user_ids: Annotated[list[Name], Field(min_length=1, max_length=100)]


class UserChange(BaseModel):
    """A user after a change."""

    user_id: str
    data: UserObject


class UserInfo(BaseModel):
    """A user and its keys."""

    user_id: str
    user_info: UserObject
    keys: list[KeyObject]
    teams: list[dict[str, Any]] = []


class DeletedUsers(BaseModel):
    """Which users are gone."""

    deleted_users: list[str]


class UserList(BaseModel):
    """A page of users."""

    users: list[UserObject]
    total: int
    page: int
    page_size: int
    total_pages: int


class UserQuery(BaseModel):
    """Which users to list."""

    page: int = Field(1, ge=1, le=1_000_000)
    page_size: int = Field(25, ge=1, le=1_000)
    user_ids: str | None = Field(None, description="With commas between them.")
    user_email: str | None = Field(None, description="A part of it is enough.")

    def wants(self, record: UserRecord) -> bool:
        """Say whether a user is to be listed."""
        return (not self.user_ids or record.id in self.user_ids.split(",")) and (
            not self.user_email or self.user_email.lower() in (record.email or "").lower()
        )


class UserRoutes:
    """The handlers."""

    def __init__(self, parts: AdminParts) -> None:
        """Answer out of `parts`."""
        self._parts = parts
        self._accounts = parts.accounts
        self._users = parts.accounts.users

    async def new(self, request: Request) -> UserObject:
        """Make a user."""
        await administrator(self._parts, request)
        body = await body_of(request, NewUserBody)
        body.checked()
        made = await self._users.create(body.edited(UserRecord(id=body.user_id or new_id())))
        self._accounts.changed()
        return shown_user(made)

    async def update(self, request: Request) -> UserChange:
        """Change what is named; what is absent stays, null is none."""
        await administrator(self._parts, request)
        body = await body_of(request, UserUpdateBody)
        body.checked()
        changed = await self._changed(body.user_id, body)
        return UserChange(user_id=body.user_id, data=changed)

    async def delete(self, request: Request) -> DeletedUsers:
        """Delete users and all their keys, for good."""
        await administrator(self._parts, request)
        body = await body_of(request, DeleteUsersBody)
        for user_id in dict.fromkeys(body.user_ids):
            was_there = await self._accounts.delete_user(user_id)
            self._accounts.changed()
            if not was_there:
                raise self._users.unknown(user_id)
        return DeletedUsers(deleted_users=body.user_ids)

    async def info(self, request: Request, user_id: str) -> UserInfo:
        """Look at a user and its keys."""
        await administrator(self._parts, request)
        user = shown_user(await self._users.get(user_id))
        keys = await self._accounts.keys_of(lambda key: key.user_id == user_id)
        return UserInfo(user_id=user_id, user_info=user, keys=[shown_key(key) for key in keys])

    async def listed(self, request: Request, asked: Annotated[UserQuery, Query()]) -> UserList:
        """List users, the youngest first."""
        await administrator(self._parts, request)
        found = await self._accounts.listing.page(
            self._users, asked.wants, number=asked.page, size=asked.page_size
        )
        return UserList(
            users=[shown_user(user) for user in found.rows],
            total=found.total,
            page=asked.page,
            page_size=asked.page_size,
            total_pages=math.ceil(found.total / asked.page_size),
        )

    async def _changed(self, user_id: str, fields: UserFields) -> UserObject:
        _, changed = await self._users.change(user_id, fields.edited)
        self._accounts.changed()
        return shown_user(changed)


def users_router(parts: AdminParts) -> APIRouter:
    """Make the routes about users."""
    router = APIRouter(tags=["users"])
    routes = UserRoutes(parts)

    def post(path: str, handler: Any, summary: str, body: type[BaseModel]) -> None:
        extra = described(body)
        router.add_api_route(path, handler, methods=["POST"], summary=summary, openapi_extra=extra)

    post("/user/new", routes.new, "Make a user", NewUserBody)
    post("/user/update", routes.update, "Change a user", UserUpdateBody)
    post("/user/delete", routes.delete, "Delete users and their keys", DeleteUsersBody)
    router.add_api_route("/user/info", routes.info, summary="Look at a user")
    router.add_api_route("/user/list", routes.listed, summary="List users")
    return router
