"""A container's worker is healthy while it says so itself, and while Redis cannot be asked."""

from __future__ import annotations

import asyncio
from typing import Any

from embedpool_shared.config.settings import Config
from embedpool_shared.names import Names
from embedpool_worker.alive import beats, verdict


class FakeLine:
    """A Redis at 12:00.000 that remembers until when each process is present."""

    def __init__(self, alive_until_ms: dict[str, int]) -> None:
        self.alive_until_ms = alive_until_ms

    async def call(self, *command: Any) -> list[bytes]:
        if command[0] == "TIME":
            return [b"43200", b"000000"]
        assert command[:2] == ("ZRANGEBYSCORE", "ep:alive")
        beyond_ms = int(command[2].removeprefix("("))
        return [who.encode() for who, until in self.alive_until_ms.items() if until > beyond_ms]


def is_alive(alive_until_ms: dict[str, int]) -> bool:
    line: Any = FakeLine(alive_until_ms)
    return asyncio.run(beats(line, Names(), host="box"))


def test_a_worker_that_beat_lately_is_alive() -> None:
    assert is_alive({"worker:box:1f": 43_204_500})


def test_a_worker_whose_presence_has_ended_is_not() -> None:
    assert not is_alive({"worker:box:1f": 43_199_999})


def test_another_hosts_worker_and_this_hosts_api_do_not_count() -> None:
    assert not is_alive({"worker:boxer:1f": 43_204_500, "api:box:1f": 43_204_500})


def test_a_worker_is_not_blamed_for_redis_being_away() -> None:
    config = Config.model_validate({"redis": {"url": "unix:///nonexistent/redis.sock"}})

    assert asyncio.run(verdict(config, host="box")) is None


def test_a_worker_without_redis_is_told_what_to_set() -> None:
    wrong = asyncio.run(verdict(Config(), host="box"))

    assert wrong
    assert "REDIS_URL" in wrong
