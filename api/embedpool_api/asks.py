"""Requests that wait to be let in, and the calls they make together. Pure but for futures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedpool_api.allowances import Header, Standing, rate_limit_headers
from embedpool_shared.accounts import Limits


@dataclass(slots=True, eq=False)
class Admitted:
    """One request let in by every account that limits it."""

    request: str
    standings: tuple[Standing, ...] = ()
    has_ended: bool = False

    @property
    def reserved(self) -> tuple[str, ...]:
        """The accounts that hold a reservation for it."""
        return tuple([standing.account for standing in self.standings if standing.is_reserved])

    def headers(self) -> list[Header]:
        """Write the `x-ratelimit-*` of whichever account has least left."""
        return rate_limit_headers(self.standings)


@dataclass(slots=True, eq=False)
class Ask:
    """One request that waits to be let in."""

    request: str
    limited: Sequence[tuple[str, Limits]]
    tokens: int
    cost_pico_usd: int
    hold_ms: int
    waiter: asyncio.Future[Any]  # done as soon as nobody waits any more; a refusal ends it
    let_in: Callable[[Admitted], None]
    standings: list[Standing] = field(default_factory=list)
    is_refused_by_redis: bool = False

    def pass_on(self, admitted: Admitted) -> bool:
        """Let the request in, unless nobody waits for that any more; tells whether it is in."""
        if self.waiter.done():
            return False
        try:
            self.let_in(admitted)
        except Exception as bug:  # noqa: BLE001 (it is this request's; the others go on)
            self.refuse(bug)
            return False
        return True

    def refuse(self, error: Exception) -> None:
        """End the wait, unless nobody waits any more."""
        if not self.waiter.done():
            self.waiter.set_exception(error)

    def arguments(self) -> tuple[str, int, int, int]:
        """Write it as the script reads it."""
        return self.request, self.tokens, self.cost_pico_usd, self.hold_ms


@dataclass(slots=True)
class Call:
    """The requests of one write that one account limits."""

    account: str
    limits: Limits
    asks: list[Ask] = field(default_factory=list)


def calls_of(asks: Sequence[Ask]) -> list[Call]:
    """Group requests by account, in their order; of limits that changed meanwhile, the newest."""
    calls: dict[str, Call] = {}
    for ask in asks:
        for account, limits in ask.limited:
            call = calls.get(account)
            if call is None:
                call = calls[account] = Call(account, limits)
            call.limits = limits
            call.asks.append(ask)
    return list(calls.values())
