"""The catalogue as this worker would write it, and Redis' copy kept in step with it.

Workers of one configuration write the same; what refusals taught is compared before anything is
written, so that two workers never overwrite each other's catalogue in turns.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable

from embedpool_shared.catalog import encode_catalog
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_worker.fleet.catalogue import with_learned_caps
from embedpool_worker.fleet.understanding import Understanding
from embedpool_worker.learned_caps import LearnedCaps
from embedpool_worker.shared_caps import SharedCaps

log = logging.getLogger(__name__)


class PublishedCatalog:
    """Owns the catalogue line of one worker process, and what it shares of learned caps."""

    def __init__(
        self,
        line: Callable[[str], Line],
        names: Names,
        found: Understanding,
        learned: LearnedCaps,
    ) -> None:
        """Prepare; `run` talks to Redis."""
        self._line = line("catalog")
        self._names = names
        self._found = found
        self._learned = learned
        self._caps = SharedCaps(line("caps"), names, learned, on_change=self._write)
        self._seen = ""
        self._wake = asyncio.Event()
        self._write()

    def compare(self, version: str) -> None:
        """Take in which version Redis has; publish where it is not ours."""
        self._seen = version
        if version != self.version:
            self._wake.set()

    async def run(self) -> None:
        """Publish and share for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._caps.run())
            tasks.create_task(self._publish_when_needed())

    async def _publish_when_needed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._publish()
            except QueueUnavailable:
                continue  # the next beat says whether it is still needed

    async def _publish(self) -> None:
        await self._caps.share()
        if self._seen == self.version:
            return
        await self._line.call(
            "HSET", self._names.catalog, "models", self._blob, "version", self.version
        )
        log.info("catalog_published version=%s", self.version)

    def _write(self) -> None:
        catalog = with_learned_caps(self._found.catalog, self._found.fleet, self._learned)
        self._blob = encode_catalog(catalog)
        self.version = hashlib.sha256(self._blob).hexdigest()[:16]
