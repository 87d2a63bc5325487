"""Whether this process lives, listens, and has somebody to work for it."""

from typing import Any

import orjson
from fastapi import APIRouter, Query, Response

from embedpool_api.errors import error_body
from embedpool_api.parts import ApiParts
from embedpool_shared.errors import EmbedPoolError, QueueUnavailable

ALIVE = ("/healthz", "/health/liveliness", "/health/liveness")
READY = ("/readyz", "/health/readiness")


def ops_router(parts: ApiParts) -> APIRouter:
    """Make the health routes; they answer anybody, and tell no secret."""
    router = APIRouter(tags=["operations"])

    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    async def ready(
        deep: bool = Query(False, description="Also ask Redis and look for a living worker."),
    ) -> Response:
        # Shallow it stays green while Redis is away: callers then get our 503 with Retry-After,
        # not a load balancer's page.
        if not deep:
            return _answer(200, {"status": "ready"})
        return await _deep(parts)

    for path in ALIVE:
        shown = path == ALIVE[0]
        router.add_api_route(path, alive, include_in_schema=shown, summary="Is it alive?")
    for path in READY:
        shown = path == READY[0]
        router.add_api_route(path, ready, include_in_schema=shown, summary="Is it ready?")
    return router


async def _deep(parts: ApiParts) -> Response:
    try:
        details = dict(await parts.health())
    except EmbedPoolError as error:
        return _unready({}, error)
    if details.pop("ok", False):
        return _answer(200, {"status": "ready", **details})
    return _unready(details, QueueUnavailable("Redis is away, or no worker lives"))


def _unready(details: dict[str, Any], error: EmbedPoolError) -> Response:
    status, _, body = error_body(error)
    return _answer(status, {"status": "not ready", **details, **orjson.loads(body)})


def _answer(status: int, content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
