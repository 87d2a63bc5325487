"""What the routes are given; only the composition root makes these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from starlette.types import ASGIApp

    from embedpool_api.bulk.parts import BulkParts
    from embedpool_api.callers import Caller
    from embedpool_api.routes.admin import AdminParts
    from embedpool_api.routes.metrics import MetricsParts
    from embedpool_api.routes.status import StatusParts
    from embedpool_api.witness import Witness
    from embedpool_shared.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The running pieces behind the HTTP edge."""

    embeddings: ASGIApp
    """The hot endpoint: gets POSTs only, may raise our errors before it answers, and finds in its
    scope `paths.MODEL`, `middleware.HEADERS` and `middleware.REQUEST_ID`."""
    catalog: Callable[[], Catalog | None]
    """The last good copy; None while none was ever seen."""
    health: Callable[[], Awaitable[Mapping[str, Any]]]
    """Details for people, with `ok` saying whether Redis is reachable and a worker lives."""
    identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]]
    """Tells the caller by its headers; `Gate.identify` is one."""
    admin: AdminParts | None = None
    """What an administrator's routes need; without it there are none."""
    bulk: BulkParts | None = None
    """What the routes about files and batches need; without it there are none."""
    status: StatusParts | None = None
    """What the status page needs; without it there is none."""
    metrics: MetricsParts | None = None
    """What the route for Prometheus needs; without it there is none."""
    witness: Witness | None = None
    """Hears of every request when it is over."""
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]] | None = None
    version: str = "0"
