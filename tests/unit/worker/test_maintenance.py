"""What the slow chores tidy away; the rest of them needs a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import fakeredis
from redis.exceptions import ResponseError

from embedpool_shared.names import Names
from embedpool_shared.redis import RedisRefused
from embedpool_worker.maintenance import LEDGER_KEPT_MS, Housekeeper

NAMES = Names("t")
LEDGER = NAMES.lane("m").ledger


class InProcess:
    """A line to a Redis of which only plain commands are needed."""

    def __init__(self) -> None:
        self.redis: Any = fakeredis.FakeRedis()
        self.redis.xadd(NAMES.lanes, {"lane": "m"})

    async def call(self, *command: Any, patience_s: float = 0.0) -> Any:
        connection = self.redis.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        except ResponseError as refused:
            raise RedisRefused(str(refused)) from refused
        finally:
            self.redis.connection_pool.release(connection)

    async def run(self, *_: Any, **__: Any) -> Any:
        return 0, 0

    def record(self, *, written_at_ms: int) -> None:
        self.redis.xadd(LEDGER, {"r": b""}, id=f"{written_at_ms}-*")

    def now_ms(self) -> int:
        return int(self.redis.time()[0]) * 1_000


def test_ledger_records_are_kept_for_an_hour() -> None:
    line = InProcess()
    recent_ms = line.now_ms() - LEDGER_KEPT_MS // 2
    for number in range(500):
        line.record(written_at_ms=1 + number)
    line.record(written_at_ms=recent_ms)
    keeper: Any = Housekeeper(line, line, NAMES)  # type: ignore[arg-type]

    asyncio.run(keeper.tidy(frozenset()))

    kept = [int(entry.partition(b"-")[0]) for entry, _ in line.redis.xrange(LEDGER)]
    assert recent_ms in kept
    assert len(kept) < 500
