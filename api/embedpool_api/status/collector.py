"""Looks at the pool for everybody who has the status page open.

Invariants
- However many ask, Redis is asked once a second: one pipeline to the directory, one to the lanes.
- While Redis is away everybody is told so within the patience, and shown what was seen last.
- Nothing is written, and no text is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedpool_api.status.endings_seen import MAX_ENTRIES, logged
from embedpool_api.status.lanes_seen import MAX_DEAD_LETTERS, LaneSeen, lane_seen
from embedpool_api.status.snapshot import Snapshot
from embedpool_shared.catalog import Catalog
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, Names
from embedpool_shared.provider_keys import KeyState, key_state
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script

FRESH_S: Final = 0.95
"""A little less than a second, so that who asks every second or two sees something new."""
PATIENCE_S: Final = 1.5
MAX_LANES: Final = 1_000
MAX_KEYS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen last, how long ago, and whether that is because Redis is away."""

    snapshot: Mapping[str, Any] | None  # as `Snapshot.shown` says; None before the first
    age_s: float | None
    is_redis_away: bool


@dataclass(frozen=True, slots=True)
class _Directory:
    now_ms: int
    alive: list[str]
    lanes: list[str]
    log: Sequence[Any]
    keys: list[KeyState]


class Collector:
    """Owns the two status lines of an api process."""

    def __init__(
        self, names: Names, line: Callable[[str], Line], *, catalog: Callable[[], Catalog | None]
    ) -> None:
        """Prepare; the first look connects. `catalog` says which provider keys there are."""
        self._names = names
        self._directory_line = line("status")
        self._lanes_line = line("status-lanes")
        self._catalog = catalog
        self._last: Mapping[str, Any] | None = None
        self._is_redis_away = False
        self._asked_at = float("-inf")
        self._seen_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> Look:
        """Say what the pool looks like, as of a second ago at most while Redis answers."""
        loop = asyncio.get_running_loop()
        if self._task is None and loop.time() - self._asked_at >= FRESH_S:
            self._asked_at = loop.time()
            self._task = loop.create_task(self._collect())
        if self._task is not None:
            # Shielded: whoever gives up waiting is not the only one who asked.
            await asyncio.shield(self._task)
        return Look(
            snapshot=self._last,
            age_s=None if self._last is None else loop.time() - self._seen_at,
            is_redis_away=self._is_redis_away,
        )

    async def close(self) -> None:
        """Stop looking, and hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._directory_line.close()
        await self._lanes_line.close()

    async def _collect(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                directory = await self._directory()
                lanes = await self._lanes(directory.lanes)
            seen = Snapshot(
                at_ms=directory.now_ms,
                alive=directory.alive,
                lanes=lanes,
                keys=directory.keys,
                log=logged(directory.log),
            )
            self._last = seen.shown(self._catalog())
            self._seen_at = asyncio.get_running_loop().time()
            self._is_redis_away = False
        except (QueueUnavailable, TimeoutError):
            self._is_redis_away = True
        finally:
            self._task = None

    async def _directory(self) -> _Directory:
        """Read what is not of one lane."""
        catalog, names = self._catalog(), self._names
        key_ids = [key.id for key in catalog.keys[:MAX_KEYS]] if catalog else []
        (seconds, micros), alive, lanes, log, *hashes = await self._directory_line.call_all(
            [
                ("TIME",),
                ("ZRANGE", names.alive, 0, -1, "WITHSCORES"),
                ("XRANGE", names.lanes, "-", "+", "COUNT", MAX_LANES),
                ("XREVRANGE", names.spend_log, "+", "-", "COUNT", MAX_ENTRIES),
                *(("HGETALL", names.provider_key(key_id)) for key_id in key_ids),
            ]
        )
        now_ms = int(seconds) * 1_000 + int(micros) // 1_000
        return _Directory(
            now_ms,
            [it.decode() for it, end in _pairs(alive) if float(end) > now_ms],
            [fields[1].decode() for _, fields in lanes],
            log,
            [
                key_state(key_id, dict(_pairs(flat)), now_ms=now_ms)
                for key_id, flat in zip(key_ids, hashes, strict=True)
            ],
        )

    async def _lanes(self, models: Sequence[str]) -> list[LaneSeen]:
        if not models:
            return []
        replies = await self._lanes_line.run_all(
            script("glance"),
            [(self._parts(model), (GROUP, MAX_DEAD_LETTERS)) for model in models],
        )
        seen = []
        for model, reply in zip(models, replies, strict=True):
            if isinstance(reply, QueueUnavailable):
                raise reply
            seen.append(lane_seen(model, reply))
        return seen

    def _parts(self, model: str) -> list[str]:
        lane = self._names.lane(model)
        return [lane.depth, *map(lane.stream, LaneClass), lane.dead]


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
