"""Puts fresh vectors into the cache, after they were answered and beside everything else.

Invariants:
- No answer waits for the cache: what cannot be stored soon is dropped.
- The vectors take about `max_bytes` in Redis at most; what would be more is not stored.
- Nothing is stored that only callers saw who forbid it, or who brought their own provider key.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import random
from typing import Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import CacheUse, Input, MergeKey
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script
from embedpool_worker.cached_vectors import CachedVector, Spaces, content_of, written
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import Item
from embedpool_worker.providers.port import ProviderAnswer

log = logging.getLogger(__name__)

MAX_QUEUED_BYTES: Final = 16 * 1024 * 1024
BYTES_PER_WRITE: Final = 512 * 1024
"""Redis serves nobody else while it takes a write in."""
ENTRY_BYTES: Final = 200
"""What an entry takes beside its value: its name, its expiry, Redis' own tables."""
PATIENCE_S: Final = 2.0
FULL_PAUSE_S: Final = 5.0
"""How long nothing is stored after the cache was found full."""


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """How long vectors are kept, and how much they may take."""

    ttl_s: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class _Fresh:
    space: bytes
    given: Input
    cached: CachedVector

    @property
    def size_bytes(self) -> int:
        return len(self.cached.vector) + ENTRY_BYTES


class Storing:
    """Owns a worker's line for writing the cache."""

    def __init__(
        self,
        line: Line,
        names: Names,
        digest: Callable[[bytes], str],
        spaces: Spaces,
        bounds: CacheBounds,
    ) -> None:
        """`digest` names content under the pool's secret."""
        self.stored = 0
        self.dropped = 0
        self._line = line
        self._names = names
        self._digest = digest
        self._spaces = spaces
        self._bounds = bounds
        self._fresh: deque[_Fresh] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()

    def keep(
        self,
        merge: MergeKey,
        deployments: Sequence[Deployment],
        places: Mapping[int, Input],
        answer: ProviderAnswer,
        tokens: Mapping[int, int],
    ) -> None:
        """Store the vectors at these places of an answer, some time soon or never."""
        space = self._spaces.of(merge, deployments)
        for place, given in places.items():
            cached = CachedVector(answer.vectors[place], tokens[place], answer.model)
            fresh = _Fresh(space, given, cached)
            if self._queued_bytes + fresh.size_bytes > MAX_QUEUED_BYTES:
                self.dropped += 1
                continue
            self._queued_bytes += fresh.size_bytes
            self._fresh.append(fresh)
        self._wake.set()

    async def run(self) -> None:
        """Store for ever."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while self._fresh:
                    await self._store(self._take_some())
                failures = 0
            except QueueUnavailable:
                self._drop_all()
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1

    def _take_some(self) -> list[_Fresh]:
        taken: list[_Fresh] = []
        size_bytes = 0
        while self._fresh and size_bytes < BYTES_PER_WRITE:
            taken.append(self._fresh.popleft())
            size_bytes += taken[-1].size_bytes
        self._queued_bytes -= size_bytes
        return taken

    async def _store(self, fresh: list[_Fresh]) -> None:
        ttl_ms = max(1, int(self._bounds.ttl_s * 1_000))
        size_bytes = sum(one.size_bytes for one in fresh)
        has_room = await self._line.run(
            script("room"), [self._names.vectors], [ttl_ms, self._bounds.max_bytes, size_bytes],
            patience_s=PATIENCE_S,
        )  # fmt: skip
        if not has_room:
            self.dropped += len(fresh)
            self._drop_all()
            log.info("cache_full max_bytes=%d", self._bounds.max_bytes)
            await asyncio.sleep(FULL_PAUSE_S)
            return
        await self._line.call_all(
            [("SET", self._name(one), written(one.cached), "PX", ttl_ms) for one in fresh],
            patience_s=PATIENCE_S,
        )
        self.stored += len(fresh)

    def _name(self, fresh: _Fresh) -> str:
        return self._names.vector(self._digest(content_of(fresh.space, fresh.given)))

    def _drop_all(self) -> None:
        self.dropped += len(self._fresh)
        self._fresh.clear()
        self._queued_bytes = 0


def may_be_kept(items: Sequence[Item], where: Sequence[int]) -> dict[int, Input]:
    """The inputs of a call, by place, that at least one of their callers lets us store."""
    return {
        place: item.input
        for item, place in zip(items, where, strict=True)
        if item.job.job.cache & CacheUse.WRITE and not item.job.job.sealed
    }
