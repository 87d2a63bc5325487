"""The metrics of the api on its own port, for whoever has the master key or the scraper's token."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from embedpool_api.callers import Caller, require_own
from embedpool_api.credentials import credential
from embedpool_api.middleware import HEADERS
from embedpool_shared.errors import RouteNotAllowed
from embedpool_shared.telemetry.exporter import PATH
from embedpool_shared.telemetry.prometheus import CONTENT_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsParts:
    """The running pieces behind the route."""

    target: Callable[[], bytes]
    """Writes the metrics of all api processes; blocks for a second at most."""
    identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]]
    """Tells the caller by its headers; `Gate.identify` is one."""
    is_token: Callable[[bytes | None], bool]
    """Tells whether somebody sent the scraper's token."""
    has_master_key: bool
    """Without one this machine may look."""


def metrics_router(parts: MetricsParts) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["operations"])
    turn = asyncio.Lock()

    @router.get(PATH, summary="Read the metrics of the api", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Show all metrics of the api in Prometheus' format, whatever the number of processes.

        For the master key or `metrics.token`; without a master key, for this machine.
        """
        await _let_in(parts, request.scope[HEADERS])
        async with turn:
            body = await asyncio.to_thread(parts.target)
        return Response(body, headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})

    return router


async def _let_in(parts: MetricsParts, headers: Mapping[bytes, bytes]) -> None:
    """Raise `InvalidApiKey` or `RouteNotAllowed` for whoever may not look."""
    if parts.is_token(credential(headers)):
        return
    caller = await parts.identify(headers)
    require_own(caller)
    if parts.has_master_key and not caller.is_admin:
        raise RouteNotAllowed("Only the master key or the metrics token may read metrics")
