"""Compares notes about provider keys with all other workers, in Redis.

Invariants:
- Requests and tokens are used only from a lease, and only while it is valid on this loop's clock,
  measured from before it was asked for: no minute at the provider sees more than a limit, whatever
  workers die. What is handed back is sent once: if the message is lost it counts as used.
- A rest one worker reports is obeyed by the others from their next contact on, within `SYNC_S` of
  using the key; a rest is never shortened by anybody.
- A key without limits costs its calls no round trip, and works on while Redis is away. One with
  limits goes on with what was leased, then its callers wait for Redis or their deadline.
- Calls in flight with a key, over all workers: at most its slots + the workers − 1, once each has
  had its first contact. Until then, and without Redis, a worker may use the configured slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import random
from typing import Any, Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import Names
from embedpool_shared.provider_keys import (
    GRAIN_MS,
    WINDOW_MS,
    KeyField,
    RestReason,
    describe,
    shown_part,
)
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script
from embedpool_worker.headroom import Headroom, Lease, Need
from embedpool_worker.keyring import KeyHealth
from embedpool_worker.provider_limits import Said, SaidLimit

SYNC_S: Final = 1.0
"""While a key is in use, a worker hears of it at least so often."""
RETURN_S: Final = 0.1
"""What calls did not need goes back at most so much later."""
PATIENCE_S: Final = 2.0
TRIP_S: Final = 0.1
"""A round trip to the provider, before the first is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The arithmetic of limits; tests use a shorter minute."""

    window_ms: int = WINDOW_MS
    grain_ms: int = GRAIN_MS
    lease_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """What happened to a key here and concerns all workers."""

    what: str  # cooling, retired, halve or well, as the script says
    reason: RestReason | None = None
    until_at: float = 0.0
    halves_slots: bool = False


@dataclass(slots=True, eq=False)
class _Tie:
    """What this worker has to say and to ask about one key."""

    health: KeyHealth
    most_slots: int
    need: Need | None = None
    lane_class: LaneClass = LaneClass.INTERACTIVE  # of what is needed
    is_asked: bool = False
    reports: list[Report] = field(default_factory=list)
    said: Said | None = None
    has_met: bool = False
    was_active: bool = False  # at the last contact
    contacted_at: float = 0.0

    def due_at(self) -> float | None:
        """Say when the next contact should be, None if nobody cares."""
        if self.need or self.is_asked or self.reports:
            return 0.0
        is_active = self.was_active or self.health.in_flight
        due = [self.contacted_at + SYNC_S] if is_active else []
        headroom = self.health.headroom
        if headroom and (lapses_at := headroom.lapses_at()) is not None:
            due.append(max(lapses_at, self.contacted_at + RETURN_S))
        return min(due, default=None)


class SharedKeys:
    """Owns the line for provider keys of one worker process."""

    def __init__(
        self, line: Line, names: Names, *, worker_id: str, timing: Timing | None = None
    ) -> None:
        """Prepare; `run` talks to Redis."""
        self._line = line
        self._names = names
        self._worker_id = worker_id
        self._timing = timing or Timing()
        self._ties: dict[KeyHealth, _Tie] = {}
        self._bell = asyncio.Event()
        self.on_contact: Callable[[], None] = lambda: None

    def join(self, health: KeyHealth) -> None:
        """Share this key from now on; its slots are the configured ones so far."""
        self._ties[health] = _Tie(health, health.slots)

    def ask(
        self,
        health: KeyHealth,
        need: Need | None = None,
        lane_class: LaneClass = LaneClass.INTERACTIVE,
    ) -> None:
        """Have a contact soon, and lease what `need` says; interactive needs go first."""
        tie = self._ties.get(health)
        if tie:
            tie.is_asked = True
            goes_first = tie.lane_class is LaneClass.BULK and lane_class is LaneClass.INTERACTIVE
            if need and (tie.need is None or goes_first):
                tie.need, tie.lane_class = need, lane_class
            self._bell.set()

    def report(self, health: KeyHealth, report: Report) -> None:
        """Tell the others, as soon as Redis can be reached."""
        tie = self._ties.get(health)
        if tie:
            tie.reports.append(report)
            self._bell.set()

    def quote(self, health: KeyHealth, said: Said) -> None:
        """Pass on at the next contact what the provider said about its limits."""
        tie = self._ties.get(health)
        if tie:
            tie.said = said

    def stir(self) -> None:
        """Look again when the next contact is due: something is to be handed back."""
        self._bell.set()

    async def run(self) -> None:
        """Keep in touch for ever."""
        failures = 0
        try:
            while True:
                due = await self._due()
                try:
                    for tie in due:
                        await self._contact(tie)
                    failures = 0
                except QueueUnavailable:
                    await asyncio.sleep(pause_s(failures, draw=random()))
                    failures += 1
        finally:
            await self._line.close()

    async def _due(self) -> list[_Tie]:
        while True:
            now = asyncio.get_running_loop().time()
            instants = [(tie, tie.due_at()) for tie in self._ties.values()]
            due = [tie for tie, at in instants if at is not None and at <= now]
            if due:
                return due
            self._bell.clear()
            next_at = min((at for _, at in instants if at is not None), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_at):
                    await self._bell.wait()

    async def _contact(self, tie: _Tie) -> None:
        name = self._names.provider_key(tie.health.id)
        if not tie.has_met:
            await describe(self._line, name, _description(tie.health))
        while tie.reports:
            await self._line.run(
                script("rest_key"), [name], _rest(tie, tie.reports[0]), patience_s=PATIENCE_S
            )
            del tie.reports[0]
        asked_at = asyncio.get_running_loop().time()
        need, lane_class = tie.need, tie.lane_class
        reply = await self._line.run(
            script("lease_key"), [name], self._question(tie, asked_at), patience_s=PATIENCE_S
        )
        tie.has_met, tie.contacted_at = True, asked_at
        tie.health.contact_due_at = asked_at + SYNC_S
        tie.was_active = tie.is_asked or tie.health.in_flight > 0
        tie.is_asked = False
        tie.need = None if tie.need is need else tie.need
        self._apply(tie, reply, asked_at, lane_class)
        self.on_contact()

    def _question(self, tie: _Tie, now: float) -> list[Any]:
        health, timing = tie.health, self._timing
        said, tie.said = tie.said, None
        need, returns = tie.need, []
        if health.headroom:
            health.headroom.lapse(now)
            returns = health.headroom.handed_back()
        is_well = health.breaker.fails == 0 and health.latency_s > 0 and health.is_usable(now)
        return [
            self._worker_id, health.in_flight, tie.most_slots, int(is_well), _trip_ms(health),
            int(not (tie.has_met or health.is_retired)), timing.window_ms, timing.grain_ms,
            health.deployment.rpm or 0, health.deployment.tpm or 0,
            1 if need else 0, need.tokens if need else 0, need.least_tokens if need else 0,
            int(tie.lane_class is LaneClass.BULK),
            *_said(said.requests if said else None), *_said(said.tokens if said else None),
            *(part for r in returns for part in (r.grain, r.requests, r.tokens)),
        ]  # fmt: skip

    def _apply(self, tie: _Tie, reply: list[Any], asked_at: float, lane_class: LaneClass) -> None:
        health, now = tie.health, asyncio.get_running_loop().time()
        cooling_ms, retired_ms, may_try, slots, workers, *limits = reply
        if cooling_ms:
            health.cool(now + cooling_ms / 1_000)
        if may_try:
            health.put_on_trial()
        elif retired_ms and not health.is_on_trial:
            health.retire()
        elif not retired_ms and health.is_retired and not tie.reports:
            health.is_retired = False  # another worker found that it works again
        health.slots = max(1, -(-slots // workers))
        if health.headroom:
            lease = self._leased(health.headroom, limits, asked_at)
            if lease:
                health.headroom.lease(lease, lane_class)
            elif wait_ms := limits[-1]:
                health.headroom.refused(wait_ms / 1_000, lane_class, now=now)

    def _leased(self, headroom: Headroom, limits: list[int], asked_at: float) -> Lease | None:
        rpm, tpm, requests, tokens, grain, _ = limits
        headroom.rpm, headroom.tpm = rpm or None, tpm or None
        if not requests:
            return None
        return Lease(grain, requests, tokens, asked_at + self._timing.lease_s)


def _description(health: KeyHealth) -> dict[KeyField, str]:
    deployment = health.deployment
    return {
        KeyField.PROVIDER: deployment.provider,
        KeyField.DEPLOYMENT: deployment.id,
        KeyField.MODEL: deployment.target or deployment.upstream_model,
        KeyField.SHOWN: shown_part(health.key.secret) if health.key else "",
    }


def _rest(tie: _Tie, report: Report) -> list[Any]:
    left_s = max(0.0, report.until_at - asyncio.get_running_loop().time())
    return [
        report.what, int(left_s * 1_000 + 0.999), report.reason.value if report.reason else "",
        tie.most_slots, _trip_ms(tie.health), int(report.halves_slots),
    ]  # fmt: skip


def _trip_ms(health: KeyHealth) -> int:
    return int(1_000 * (health.latency_s or TRIP_S)) + 1


def _said(said: SaidLimit | None) -> tuple[int, int, int]:
    if said is None or said.limit is None:
        return -1, -1, 0
    remaining = -1 if said.remaining is None else said.remaining
    return said.limit, remaining, int(1_000 * said.reset_s)
