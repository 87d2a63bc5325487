"""Batches: made, looked at, listed and cancelled; OpenAI's names and shapes."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from embedpool_api.bulk.answers import BatchList, BatchObject
from embedpool_api.bulk.creation import new_batch
from embedpool_api.bulk.ownership import lists_of, may_touch, no_batch
from embedpool_api.bulk.parts import BulkParts, bulk_caller
from embedpool_api.bulk.views import batch_list, shown_batch
from embedpool_api.callers import Caller
from embedpool_api.middleware import HEADERS
from embedpool_api.routes.batch_body import BatchBody
from embedpool_api.routes.bodies import body_of, described
from embedpool_shared.batches import Batch, Status
from embedpool_shared.errors import BadRequest

DEFAULT_PAGE = 20
MAX_PAGE = 100
CANCELLABLE = (Status.VALIDATING, Status.IN_PROGRESS)
CANCELLED_ALREADY = frozenset({Status.CANCELLING, Status.CANCELLED})


class BatchQuery(BaseModel):
    """Which batches to list."""

    after: str | None = Field(None, max_length=64, description="The last one of the page before.")
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE)


class BatchRoutes:
    """The handlers."""

    def __init__(self, parts: BulkParts) -> None:
        """Answer out of `parts`."""
        self._parts = parts

    async def create(self, request: Request) -> BatchObject:
        """Answer every line of an uploaded file within a day; in time it is done earlier."""
        caller = await bulk_caller(self._parts, request)
        body = await body_of(request, BatchBody)
        body.checked()
        record = await new_batch(self._parts, body, caller, request.scope[HEADERS])
        return await self._shown(record.id, caller)

    async def listed(self, request: Request, asked: Annotated[BatchQuery, Query()]) -> BatchList:
        """List batches, the newest first."""
        caller = await bulk_caller(self._parts, request)
        batches = await self._parts.batches.list(
            lists_of(caller), after=asked.after, limit=asked.limit + 1
        )
        return batch_list(batches, limit=asked.limit, with_owner=caller.is_admin)

    async def look(self, request: Request, batch_id: str) -> BatchObject:
        """Look at a batch: how far it is, what it used, where its results are."""
        return await self._shown(batch_id, await bulk_caller(self._parts, request))

    async def cancel(self, request: Request, batch_id: str) -> BatchObject:
        """Stop a batch; what is answered by then is kept."""
        caller = await bulk_caller(self._parts, request)
        batch = await self._theirs(batch_id, caller)
        status = await self._parts.batches.step(
            batch.record.id, Status.CANCELLING, from_=CANCELLABLE
        )
        if status is None:
            raise no_batch(batch_id)
        if status not in CANCELLED_ALREADY:
            raise BadRequest(f"A batch that is {status.value} cannot be cancelled any more")
        return await self._shown(batch_id, caller)

    async def _shown(self, batch_id: str, caller: Caller) -> BatchObject:
        batch = await self._theirs(batch_id, caller)
        return shown_batch(batch, with_owner=caller.is_admin)

    async def _theirs(self, batch_id: str, caller: Caller) -> Batch:
        batch = await self._parts.batches.read(batch_id)
        if batch is None or not may_touch(caller, batch.record.owner):
            raise no_batch(batch_id)
        return batch


def batches_router(parts: BulkParts) -> APIRouter:
    """Make the routes about batches, with and without /v1."""
    router = APIRouter(tags=["batches"])
    routes = BatchRoutes(parts)
    for prefix in ("/v1", ""):
        batches, shown = f"{prefix}/batches", bool(prefix)
        one = f"{batches}/{{batch_id}}"

        def add(path: str, handler: Any, summary: str, shown: bool = shown, **more: Any) -> None:
            router.add_api_route(path, handler, summary=summary, include_in_schema=shown, **more)

        add(
            batches,
            routes.create,
            "Make a batch",
            methods=["POST"],
            openapi_extra=described(BatchBody),
        )
        add(batches, routes.listed, "List batches")
        add(one, routes.look, "Look at a batch")
        add(f"{one}/cancel", routes.cancel, "Cancel a batch", methods=["POST"])
    return router
