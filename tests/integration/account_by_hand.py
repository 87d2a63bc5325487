"""An account whose scripts a test calls itself, at times it chooses."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

    tokens: int = 1
    cost: int = 0
    jobs: int = 1

    def arguments(self) -> list[int]:
        return [self.tokens, self.cost, self.jobs]


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
    """What a range says of one reservation."""

    reservation: str
    ended: int = 1
    tokens: int = 0  # reserved for the jobs that ended
    cost: int = 0  # … as well
    used: int = 0

    def arguments(self) -> list[Any]:
        return [self.reservation, self.ended, self.tokens, self.cost, self.used]


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
        self,
        limits: Limits,
        *wishes: Wish,
        reservation: str = "r",
        hold_ms: int = 180_000,
        api: str = "a1",
        in_flight: int = 0,
    ) -> list[Verdict]:
        wanted = (limits.rpm, limits.tpm, limits.parallel, limits.budget_pico_usd)
        arguments = ["" if limit is None else limit for limit in wanted]
        arguments += [api, in_flight, 15_000, reservation, hold_ms]
        arguments += map(sum, zip(*(wish.arguments() for wish in wishes), strict=True))
        for wish in wishes:
            arguments += wish.arguments()
        names = self.names
        reply = self._run("admit", [names.account, names.window, names.held], arguments)
        return verdicts(reply, wishes)

    def release(self, *shares: tuple[Any, ...], api: str = "a1", in_flight: int | str = "") -> int:
        """Give back shares: (reservation, number or "", jobs, tokens, cost)."""
        arguments = [api, in_flight, 15_000]
        for share in shares:
            arguments += share
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


def verdicts(reply: list[int], wishes: Sequence[Wish]) -> list[Verdict]:
    """Spell out what the script says: it names the refused only, and counts before the first."""
    refused = {place: said for place, *said in zip(*[iter(reply[4:])] * 3, strict=True)}
    _, _, requests, tokens = reply[:4]
    found = []
    for place, wish in enumerate(wishes):
        if place not in refused:
            requests, tokens = requests + 1, tokens + wish.tokens
        why, wait_ms = refused.get(place, (0, 0))
        found.append(Verdict(why, wait_ms, requests, tokens, *reply[:2]))
    return found


@cache
def at_chosen_time(name: str) -> str:
    """Read a script that takes the test's clock for Redis' own."""
    source = script(name).source
    assert source.count(READS_TIME) == 1
    return source.replace(READS_TIME, AT_CHOSEN_TIME)
