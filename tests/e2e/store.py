"""What a pool has in Redis, for tests that must look behind its api."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from embedpool_shared.jobs import LaneClass, LedgerRecord, records_from
from embedpool_shared.names import GROUP, Names
from support.processes import wait_until


class Store:
    """One Redis under one prefix."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client
        self._names = Names()

    def lanes(self) -> list[str]:
        """The models that were ever asked for."""
        return [name.decode() for name in self.client.smembers(self._names.known_lanes)]

    def alive(self) -> str:
        """The processes that say they live."""
        return b" ".join(self.client.zrange(self._names.alive, 0, -1)).decode()

    def waiting(self, model: str) -> int:
        """Items of this model not answered yet."""
        return int(self.client.hget(self._names.lane(model).depth, "items") or 0)

    def holder(self, model: str) -> str:
        """A worker that holds requests of this model right now, "" if none does."""
        stream = self._names.lane(model).stream(LaneClass.INTERACTIVE)
        held = self.client.xpending(stream, GROUP)["consumers"]
        return held[0]["name"].decode() if held else ""

    def ledger(self, model: str) -> list[LedgerRecord]:
        """Every record of the lane, rolled up or not, oldest first."""
        waiting = self.client.xrange(self._names.lane(model).ledger)
        entries = {entry_id: fields[b"r"] for entry_id, fields in waiting}
        for _, fields in self.client.xrange(self._names.spend_log):
            if fields[b"l"].decode() == model:
                entries[fields[b"i"]] = fields[b"r"]
        in_order = sorted(entries, key=lambda entry_id: [*map(int, entry_id.split(b"-"))])
        return [record for entry_id in in_order for record in records_from(entries[entry_id])]

    def is_quiet(self) -> bool:
        """Tell whether nothing waits, nothing is leased and every depth is zero."""
        return not any(self._unfinished(model) for model in self.lanes())

    def wait_until_quiet(self, *, patience_s: float = 15.0) -> None:
        """Return when nothing is left; raises `NotInTime`."""
        wait_until(self.is_quiet, patience_s=patience_s, what=f"quiet: {self._left()}")

    def _left(self) -> str:
        return ", ".join(model for model in self.lanes() if self._unfinished(model))

    def _unfinished(self, model: str) -> bool:
        lane = self._names.lane(model)
        depth = self.client.hmget(lane.depth, "items", "bytes", "tokens")
        streams = [lane.stream(lane_class) for lane_class in LaneClass]
        return any(int(value or 0) for value in depth) or any(map(self._holds, streams))

    def _holds(self, stream: str) -> bool:
        if not self.client.exists(stream):
            return False
        return bool(self.client.xlen(stream) or self.client.xpending(stream, GROUP)["pending"])


@contextmanager
def store_at(url: str) -> Iterator[Store]:
    """Look into the Redis at `url`."""
    with redis.Redis.from_url(url) as client:
        yield Store(client)
