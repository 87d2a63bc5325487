"""Grants the right to make one call now: a free slot on a usable key.

Invariants:
- A permit is given back exactly once; a waiter that was cancelled leaves none behind.
- Interactive waiters go first, but every tenth permit looks at bulk first, so bulk never starves.
- Nobody waits for a key that cannot become usable before the waiter's own deadline.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from embedpool_shared.errors import NoKeys
from embedpool_shared.jobs import LaneClass
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.keyring import KeyHealth, choose, ready_at
from embedpool_worker.verdicts import no_keys

BULK_FLOOR_EVERY = 10


@dataclass(slots=True, eq=False)
class Permit:
    """One call may be made with this key."""

    health: KeyHealth
    lane_class: LaneClass
    is_given_back: bool = False


@dataclass(slots=True, eq=False)
class _Waiter:
    keys: Sequence[KeyHealth]
    lane_class: LaneClass
    until_at: float
    granted: asyncio.Future[Permit]


class Permits:
    """All keys this process may use, and who waits for one."""

    def __init__(self, *, slots_per_key: int) -> None:
        """Allow so many calls at a time per key; the local model computes one at a time."""
        self._slots_per_key = slots_per_key
        self._keys: dict[tuple[str, str], KeyHealth] = {}
        self._waiters: dict[LaneClass, deque[_Waiter]] = {c: deque() for c in LaneClass}
        self._grants = 0
        self._alarm: asyncio.TimerHandle | None = None

    def keys_of(self, deployments: Sequence[Deployment]) -> list[KeyHealth]:
        """List the keys that can call any of these deployments."""
        return [
            self._health(deployment, position)
            for deployment in deployments
            if deployment.is_callable
            for position in range(max(1, len(deployment.keys)))
        ]

    def _health(self, deployment: Deployment, position: int) -> KeyHealth:
        key = deployment.keys[position] if deployment.keys else None
        name = (deployment.id, key.id if key else "")
        health = self._keys.get(name)
        if health is None:
            slots = 1 if deployment.adapter is Adapter.LOCAL else self._slots_per_key
            health = self._keys[name] = KeyHealth(deployment, key, slots)
        return health

    async def acquire(
        self, deployments: Sequence[Deployment], lane_class: LaneClass, *, until_at: float
    ) -> Permit:
        """Wait for a permit; raises `NoKeys` once none can come before `until_at`."""
        keys = self.keys_of(deployments)
        loop = asyncio.get_running_loop()
        if not any(self._waiters.values()):
            permit = self._take(keys, lane_class, loop.time())
            if permit:
                return permit
        in_vain = _in_vain(keys, until_at=until_at, now=loop.time())
        if in_vain:
            raise in_vain
        waiter = _Waiter(keys, lane_class, until_at, loop.create_future())
        self._waiters[lane_class].append(waiter)
        self._grant()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    def give_back(self, permit: Permit) -> None:
        """End the call; the slot goes to whoever is next."""
        if not permit.is_given_back:
            permit.is_given_back = True
            permit.health.give_back(permit.lane_class)
            self._grant()

    def refuse_unserved(self) -> None:
        """Wake every waiter with nothing to wait for any more, after a key was sent to rest."""
        now = asyncio.get_running_loop().time()
        for waiter in [w for queue in self._waiters.values() for w in queue]:
            in_vain = _in_vain(waiter.keys, until_at=waiter.until_at, now=now)
            if in_vain and not waiter.granted.done():
                waiter.granted.set_exception(in_vain)
        self._grant()

    def _take(self, keys: Sequence[KeyHealth], lane_class: LaneClass, now: float) -> Permit | None:
        health = choose(keys, lane_class, now=now)
        if health is None:
            return None
        health.take(lane_class)
        self._grants += 1
        return Permit(health, lane_class)

    def _grant(self) -> None:
        now = asyncio.get_running_loop().time()
        order = [LaneClass.INTERACTIVE, LaneClass.BULK]
        if self._grants % BULK_FLOOR_EVERY == BULK_FLOOR_EVERY - 1:
            order.reverse()
        for lane_class in order:
            queue = self._waiters[lane_class]
            for _ in range(len(queue)):
                waiter = queue.popleft()
                if waiter.granted.done():
                    continue
                permit = self._take(waiter.keys, lane_class, now)
                if permit:
                    waiter.granted.set_result(permit)
                else:
                    queue.append(waiter)
        self._wake_when_a_key_is_rested(now)

    def _wake_when_a_key_is_rested(self, now: float) -> None:
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        rests = [
            key.cooling_until_at
            for queue in self._waiters.values()
            for waiter in queue
            for key in waiter.keys
            if key.cooling_until_at > now and not key.is_retired
        ]
        if rests:
            self._alarm = asyncio.get_running_loop().call_at(min(rests), self._grant)

    def _forget(self, waiter: _Waiter) -> None:
        if waiter.granted.done() and not waiter.granted.cancelled():
            if waiter.granted.exception() is None:
                self.give_back(waiter.granted.result())
        elif waiter in self._waiters[waiter.lane_class]:
            self._waiters[waiter.lane_class].remove(waiter)


def _in_vain(keys: Sequence[KeyHealth], *, until_at: float, now: float) -> NoKeys | None:
    """The refusal, if none of these keys can be called in time; a busy one always might be."""
    first_ready_at = ready_at(keys, now=now)
    if first_ready_at is not None and first_ready_at <= max(until_at, now):
        return None
    wait_s = None if first_ready_at is None else first_ready_at - now
    return no_keys(keys[0].deployment.provider, retry_after_s=wait_s)
