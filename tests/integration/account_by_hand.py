"""An account whose scripts a test calls itself, at times it chooses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import redis

from embedpool_shared.accounts import Limits
from embedpool_shared.names import Names
from embedpool_shared.scripts import script

CLOCK: Final = "test:clock"
READS_TIME: Final = "redis.call('TIME')"
AT_CHOSEN_TIME: Final = f"cjson.decode(redis.call('GET', '{CLOCK}'))"


@dataclass
class Wish:
    """One request to be let in."""

    request: str
    tokens: int = 1
    cost: int = 0
    hold_ms: int = 180_000

    def arguments(self) -> list[Any]:
        return [self.request, self.tokens, self.cost, self.hold_ms]


@dataclass
class Verdict:
    """What the script said of one wish."""

    verdict: int
    wait_ms: int
    requests: int
    tokens: int
    requests_reset_ms: int = 0
    tokens_reset_ms: int = 0


@dataclass
class Settled:
    """What a range says of one request."""

    request: str
    ended: int = 1
    jobs: int = 1
    used: int = 0
    cost: int = 0

    def arguments(self) -> list[Any]:
        return [self.request, self.ended, self.jobs, self.used, self.cost]


@dataclass
class Account:
    """One account on a real server; `now_ms` is what its scripts take for Redis' time."""

    client: redis.Redis
    name: str = "key:k"
    now_ms: int = 1_800_000_000_000
    sequence: int = field(default=0)

    def __post_init__(self) -> None:
        self.names = Names().account(self.name)

    def admit(
        self, limits: Limits, *wishes: Wish, api: str = "a1", in_flight: int = 0
    ) -> list[Verdict]:
        wanted = (limits.rpm, limits.tpm, limits.parallel, limits.budget_pico_usd)
        arguments = ["" if limit is None else limit for limit in wanted] + [api, in_flight, 15_000]
        for wish in wishes:
            arguments += wish.arguments()
        names = self.names
        reply = self._run("admit", [names.account, names.window, names.held], arguments)
        return [Verdict(*reply[at : at + 4], *reply[:2]) for at in range(2, len(reply), 4)]

    def release(self, *requests: str, api: str = "a1", in_flight: int | str = "") -> int:
        arguments = [api, in_flight, 15_000, *requests]
        released: int = self._run("release", [self.names.window, self.names.held], arguments)
        return released

    def apply(
        self,
        *settled: Settled,
        cost: int = 0,
        last: str | None = None,
        lane: str = "m",
        sums: tuple[int, ...] = (1, 2, 3, 4, 5),
        idle_ms: int = 0,
    ) -> int:
        self.sequence += 1
        requests, *tokens = sums
        arguments = [lane, last or f"1-{self.sequence}", requests, cost, *tokens, idle_ms]
        arguments.append(len(settled))
        for one in settled:
            arguments += one.arguments()
        names = self.names
        applied: int = self._run("apply", [names.account, names.window, names.held], arguments)
        return applied

    def hash(self, name: str | None = None) -> dict[str, str]:
        found: Any = self.client.hgetall(name or self.names.account)
        return {field.decode(): value.decode() for field, value in found.items()}

    @property
    def reserved_cost(self) -> int:
        found: Any = self.client.hget(self.names.held, ":cost")
        return int(found or 0)

    def leftovers(self) -> set[str]:
        """Name what is left of the reservations."""
        left: Any = self.client.keys(f"{self.names.held}*")
        return {name.decode() for name in left}

    def _run(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        seconds, ms = divmod(self.now_ms, 1_000)
        self.client.set(CLOCK, json.dumps([str(seconds), str(ms * 1_000)]))
        return self.client.register_script(at_chosen_time(name))(keys, arguments)


@cache
def at_chosen_time(name: str) -> str:
    """Read a script that takes the test's clock for Redis' own."""
    source = script(name).source
    assert source.count(READS_TIME) == 1
    return source.replace(READS_TIME, AT_CHOSEN_TIME)
