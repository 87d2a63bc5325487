"""Requests that wait to be let in, and the calls they make together. Pure but for futures.

All requests of one write share a reservation: an account that lets some of them in holds one entry
for these, and each knows its number in it and its share of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from embedpool_api.allowances import Header, Standing, limit_arguments, rate_limit_headers
from embedpool_shared.accounts import Limits


class Share(NamedTuple):
    """What a reservation holds for one of its requests, as the release script reads it."""

    reservation: str
    number: int | str = ""  # in the reservation; "" stands for all that are in it
    jobs: int = 0
    tokens: int = 0
    cost_pico_usd: int = 0


@dataclass(slots=True, eq=False)
class Admitted:
    """One request let in by every account that limits it."""

    share: Share
    standings: Sequence[Standing] = ()
    has_ended: bool = False

    @property
    def reserved(self) -> list[str]:
        """The accounts that hold a reservation for it."""
        return [standing.account for standing in self.standings if standing.is_reserved]

    def headers(self) -> list[Header]:
        """Write the `x-ratelimit-*` of whichever account has least left."""
        return rate_limit_headers(self.standings)


@dataclass(slots=True, eq=False)
class Ask:
    """One request that waits to be let in."""

    limited: Sequence[tuple[str, Limits]]
    jobs: int
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

    def share_of(self, reservation: str, number: int) -> Share:
        """Say what the reservation holds for it where it is let in."""
        return Share(reservation, number, self.jobs, self.tokens, self.cost_pico_usd)


@dataclass(slots=True)
class Call:
    """The requests of one write that one account limits."""

    account: str
    limits: Limits
    asks: list[Ask] = field(default_factory=list)

    def arguments(
        self, reservation: str, *, api_id: str, in_flight: int, lease_ms: int
    ) -> list[Any]:
        """Write it as the admission script reads it.

        What is reserved lapses when the last of the requests would; most ask for the same.
        """
        each: list[Any] = []
        tokens = cost_pico_usd = jobs = hold_ms = 0
        for ask in self.asks:
            each += ask.tokens, ask.cost_pico_usd, ask.jobs
            tokens += ask.tokens
            cost_pico_usd += ask.cost_pico_usd
            jobs += ask.jobs
            hold_ms = max(hold_ms, ask.hold_ms)
        limits = limit_arguments(self.limits)
        ours = [api_id, in_flight, lease_ms, reservation, hold_ms]
        return [*limits, *ours, tokens, cost_pico_usd, jobs, *each]


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
