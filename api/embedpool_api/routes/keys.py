"""Virtual keys: made, shown, changed, blocked, rotated, deleted; LiteLLM's names and shapes.

A key is shown where it is made or rotated, and nowhere else.
"""

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from embedpool_api.accounts.credentials import new_id
from embedpool_api.routes.account_answers import KeyObject, NewKey, shown_key, shown_new_key
from embedpool_api.routes.admin import AdminParts, administrator, anybody
from embedpool_api.routes.bodies import body_of, described
from embedpool_api.routes.key_bodies import (
    DeleteBody,
    GenerateBody,
    KeyFields,
    OneKeyBody,
    RegenerateBody,
    UpdateBody,
)
from embedpool_shared.accounts import KeyRecord
from embedpool_shared.errors import BadRequest, NotFound, RouteNotAllowed


class KeyQuery(BaseModel):
    """Which keys to list."""

    page: int = Field(1, ge=1, le=1_000_000)
    size: int = Field(10, ge=1, le=100)
    user_id: str | None = None
    team_id: str | None = None
    key_alias: str | None = None
    return_full_object: bool = Field(False, description="All about the keys, not their tokens.")

    def wants(self, record: KeyRecord) -> bool:
        """Say whether a key is to be listed."""
        return (
            (not self.user_id or record.user_id == self.user_id)
            and (not self.team_id or record.team_id == self.team_id)
            and (not self.key_alias or record.alias == self.key_alias)
        )


class KeyInfo(BaseModel):
    """A key, and its token."""

    key: str
    info: KeyObject


class KeyList(BaseModel):
    """A page of keys: their tokens, or all about them."""

    keys: list[KeyObject] | list[str]
    total_count: int
    current_page: int
    total_pages: int


class DeletedKeys(BaseModel):
    """Which keys are gone, by their token_id."""

    deleted_keys: list[str]


class KeyRoutes:
    """The handlers."""

    def __init__(self, parts: AdminParts) -> None:
        """Answer out of `parts`."""
        self._parts = parts
        self._accounts = parts.accounts
        self._keys = parts.accounts.keys

    async def generate(self, request: Request, response: Response) -> NewKey:
        """Make a key for whoever it is given to; this answer alone shows it."""
        await administrator(self._parts, request)
        body = await body_of(request, GenerateBody)
        body.checked()
        now_s = await self._keys.records.now_s()
        record = body.edited(KeyRecord(id=new_id(), digest="", name=""), now_s)
        secret = self._keys.secret(body.key)
        await self._accounts.belong(record)
        made = await self._keys.create(secret, record)
        return self._shown_once(response, shown_new_key(made, secret))

    async def update(self, request: Request) -> KeyObject:
        """Change what is named; what is absent stays, null is none."""
        await administrator(self._parts, request)
        body = await body_of(request, UpdateBody)
        key_id = await self._prepared(body, body.key)
        changed = await self._keys.change(key_id, body.edited, alias=body.key_alias or "")
        self._accounts.changed()
        return shown_key(changed)

    async def regenerate(self, request: Request, response: Response) -> NewKey:
        """Give a key another secret; the old one is refused from now on, limits and spend stay."""
        return await self._regenerated(request, response, None)

    async def regenerate_named(self, request: Request, response: Response, key: str) -> NewKey:
        """Give the key in the path another secret."""
        return await self._regenerated(request, response, key)

    async def block(self, request: Request) -> KeyObject:
        """Refuse a key until it is unblocked."""
        return await self._blocked(request, is_blocked=True)

    async def unblock(self, request: Request) -> KeyObject:
        """Let a blocked key in again."""
        return await self._blocked(request, is_blocked=False)

    async def delete(self, request: Request) -> DeletedKeys:
        """Delete keys for good; none of them if one is unknown."""
        await administrator(self._parts, request)
        body = await body_of(request, DeleteBody)
        ids = [await self._id_of(named) for named in body.keys or ()]
        ids += [await self._id_with(alias) for alias in body.key_aliases or ()]
        if not ids:
            raise BadRequest("say which keys, by `keys` or `key_aliases`", param="keys")
        ids = list(dict.fromkeys(ids))
        deleted = [await self._keys.delete(key_id) for key_id in ids]
        self._accounts.changed()
        if not all(deleted):
            raise self._keys.records.unknown("")
        return DeletedKeys(deleted_keys=ids)

    async def info(self, request: Request, key: str | None = None) -> KeyInfo:
        """Look at a key, named by itself, its token or its token_id; without one at one's own."""
        caller = await anybody(self._parts, request)
        own = caller.identity.key.id if caller.identity else None
        if own is None and not caller.is_admin:
            raise RouteNotAllowed("Only the master key may look at other keys")
        if key is None and own is None:
            raise BadRequest("`key`: say which key; the master key is none of them", param="key")
        key_id = own if key is None else await self._keys.id_of(key)
        if own is not None and key_id != own:
            raise RouteNotAllowed("Only the master key may look at other keys")
        found = await self._keys.records.get(key_id or "")
        return KeyInfo(key=found.record.digest, info=shown_key(found))

    async def listed(self, request: Request, asked: Annotated[KeyQuery, Query()]) -> KeyList:
        """List keys, the youngest first: their tokens, or all about them."""
        await administrator(self._parts, request)
        found = await self._accounts.listing.page(
            self._keys.records, asked.wants, number=asked.page, size=asked.size
        )
        shown = [shown_key(one) for one in found.rows]
        return KeyList(
            keys=shown if asked.return_full_object else [key.token for key in shown],
            total_count=found.total,
            current_page=asked.page,
            total_pages=math.ceil(found.total / asked.size),
        )

    async def _regenerated(self, request: Request, response: Response, named: str | None) -> NewKey:
        await administrator(self._parts, request)
        body = await body_of(request, RegenerateBody)
        named = named or body.key
        if named is None:
            raise BadRequest("`key`: say which key", param="key")
        secret = self._keys.secret(body.new_key)
        key_id = await self._prepared(body, named)
        rotated = await self._keys.rotate(key_id, secret, body.edited, alias=body.key_alias or "")
        return self._shown_once(response, shown_new_key(rotated, secret))

    async def _blocked(self, request: Request, *, is_blocked: bool) -> KeyObject:
        await administrator(self._parts, request)
        body = await body_of(request, OneKeyBody)
        fields = KeyFields(blocked=is_blocked)
        changed = await self._keys.change(await self._id_of(body.key), fields.edited)
        self._accounts.changed()
        return shown_key(changed)

    async def _prepared(self, body: KeyFields, named: str) -> str:
        """Check a change before anything is written."""
        body.checked()
        key_id = await self._id_of(named)
        found = await self._keys.records.get(key_id)
        await self._accounts.belong(body.edited(found.record, found.read_at))
        return key_id

    async def _id_of(self, named: str) -> str:
        key_id = await self._keys.id_of(named)
        if key_id is None:
            raise self._keys.records.unknown("")
        return key_id

    async def _id_with(self, alias: str) -> str:
        found = await self._keys.records.with_alias(alias)
        if found is None:
            raise NotFound(f"there is no key with the alias {alias!r}", param="key_aliases")
        return found.record.id

    def _shown_once(self, response: Response, answer: NewKey) -> NewKey:
        self._accounts.changed()
        response.headers["cache-control"] = "no-store"
        return answer


def keys_router(parts: AdminParts) -> APIRouter:
    """Make the routes about virtual keys."""
    router = APIRouter(tags=["keys"])
    routes = KeyRoutes(parts)

    def post(path: str, handler: Any, summary: str, body: type[BaseModel]) -> None:
        extra = described(body)
        router.add_api_route(path, handler, methods=["POST"], summary=summary, openapi_extra=extra)

    post("/key/generate", routes.generate, "Make a virtual key", GenerateBody)
    post("/key/update", routes.update, "Change a virtual key", UpdateBody)
    post("/key/delete", routes.delete, "Delete virtual keys", DeleteBody)
    post("/key/block", routes.block, "Block a virtual key", OneKeyBody)
    post("/key/unblock", routes.unblock, "Let a virtual key in again", OneKeyBody)
    post("/key/regenerate", routes.regenerate, "Rotate a virtual key", RegenerateBody)
    post(
        "/key/{key}/regenerate", routes.regenerate_named, "Rotate this virtual key", RegenerateBody
    )
    router.add_api_route("/key/info", routes.info, summary="Look at a virtual key")
    router.add_api_route("/key/list", routes.listed, summary="List virtual keys")
    return router
