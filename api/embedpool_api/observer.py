"""What this process knows of the pool: the catalogue, who works, whether Redis answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from embedpool_shared.catalog import Catalog, catalog_from
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.presence import API, TTL_S, Presence, Seen
from embedpool_shared.redis import Line

log = logging.getLogger(__name__)

NO_WORKER_PATIENCE_S: Final = 5.0
"""A pool without workers for longer than this refuses new requests."""
PRESENCE_LAPSED_PATIENCE_S: Final = NO_WORKER_PATIENCE_S - TTL_S
"""What is left of it once a worker's presence has ended: so long has nobody heard of it already."""


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
        self._hope_until_at: float | None = None
        self._presence = Presence(
            line("presence"), names, API + api_id, on_seen=self._see, on_away=self._miss
        )

    async def run(self) -> None:
        """Watch for ever."""
        self._hope_for(NO_WORKER_PATIENCE_S)
        await self._presence.run()

    async def leave(self) -> None:
        """Say goodbye."""
        await self._presence.leave()

    def has_workers(self) -> bool:
        """Tell whether a worker lived within the last seconds, as far as Redis could tell us."""
        if self.workers or self.is_redis_away or self._hope_until_at is None:
            return True
        return asyncio.get_running_loop().time() <= self._hope_until_at

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
        if was_away:  # nobody could say that they live, and coming back takes a moment
            self._hope_for(NO_WORKER_PATIENCE_S)
        elif seen.workers:
            self._hope_for(PRESENCE_LAPSED_PATIENCE_S)
        if seen.was_forgotten:
            log.warning("redis_forgot_us")
            self._on_forgotten()
        if seen.catalog_version != self._version and not self._is_fetching:
            self._is_fetching = True
            self._spawn(self._fetch_catalog(seen.catalog_version))

    def _hope_for(self, patience_s: float) -> None:
        until_at = asyncio.get_running_loop().time() + patience_s
        self._hope_until_at = max(until_at, self._hope_until_at or until_at)

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
