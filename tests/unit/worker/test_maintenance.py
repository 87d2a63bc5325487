"""What the slow chores tidy away; the rest of them needs a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import fakeredis
import pytest
from redis.exceptions import ResponseError

from embedpool_shared.names import Names
from embedpool_shared.redis import RedisRefused
from embedpool_worker import maintenance
from embedpool_worker.maintenance import Housekeeper

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


def tidied(*, records: int, bound: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(maintenance, "LEDGER_BOUND", bound)
    line = InProcess()
    for number in range(records):
        line.record(written_at_ms=1 + number)
    keeper: Any = Housekeeper(line, line, NAMES)  # type: ignore[arg-type]
    asyncio.run(keeper.tidy(frozenset()))
    return int(line.redis.xlen(LEDGER))


def test_a_ledger_record_waits_for_its_roll_up_however_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tidied(records=500, bound=500, monkeypatch=monkeypatch) == 500


def test_a_ledger_that_nobody_rolls_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tidied(records=500, bound=100, monkeypatch=monkeypatch) < 500
