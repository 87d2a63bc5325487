"""What this process knows of the pool: the catalogue, who works, whether Redis answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from embedpool_shared.catalog import Catalog, catalog_from
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.presence import API, Presence, Seen
from embedpool_shared.redis import Line

log = logging.getLogger(__name__)

NO_WORKER_PATIENCE_S: Final = 5.0
"""A pool without workers for longer than this refuses new requests."""


class Observer:
    """Owns the presence line and the catalogue line of one api process."""

    def __init__(
        self,
        names: Names,
        line: Callable[[str], Line],
        *,
        api_id: str,
        on_forgotten: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Report that Redis forgot us to `on_forgotten`."""
        self.catalog: Catalog | None = None
        self.workers: frozenset[str] = frozenset()
        self.is_redis_away = False
        self._names = names
        self._catalog_line = line("catalog")
        self._version = ""
        self._is_fetching = False
        self._on_forgotten = on_forgotten
        self._spawn = spawn
        self._last_worker_at: float | None = None
        self._presence = Presence(
            line("presence"), names, API + api_id, on_seen=self._see, on_away=self._miss
        )

    async def run(self) -> None:
        """Watch for ever."""
        self._last_worker_at = asyncio.get_running_loop().time()
        await self._presence.run()

    async def leave(self) -> None:
        """Say goodbye."""
        await self._presence.leave()

    def has_workers(self) -> bool:
        """Tell whether a worker lived within the last seconds, as far as Redis could tell us."""
        if self.workers or self.is_redis_away or self._last_worker_at is None:
            return True
        now = asyncio.get_running_loop().time()
        return now - self._last_worker_at <= NO_WORKER_PATIENCE_S

    async def look(self) -> dict[str, Any]:
        """Ask Redis now, for `/readyz?deep=1`."""
        try:
            self._see(await self._presence.beat())
        except QueueUnavailable:
            self._miss()
        return {
            "ok": bool(self.workers and self.catalog) and not self.is_redis_away,
            "redis": "unreachable" if self.is_redis_away else "ok",
            "workers": len(self.workers),
            "models": len(self.catalog.models) if self.catalog else 0,
        }

    def _see(self, seen: Seen) -> None:
        was_away, self.is_redis_away = self.is_redis_away, False
        self.workers = seen.workers
        if seen.workers or was_away:  # while Redis was away, nobody could say that they live
            self._last_worker_at = asyncio.get_running_loop().time()
        if seen.was_forgotten:
            log.warning("redis_forgot_us")
            self._on_forgotten()
        if seen.catalog_version != self._version and not self._is_fetching:
            self._is_fetching = True
            self._spawn(self._fetch_catalog(seen.catalog_version))

    def _miss(self) -> None:
        self.is_redis_away = True

    async def _fetch_catalog(self, version: str) -> None:
        """Take the new catalogue; the last good one stays while there is none."""
        try:
            blob = await self._catalog_line.call("HGET", self._names.catalog, "models")
            if blob:
                self.catalog = catalog_from(blob)
                self._version = version
        except (QueueUnavailable, ValueError) as unusable:
            log.warning("catalog_unusable error=%s", type(unusable).__name__)
        finally:
            self._is_fetching = False
