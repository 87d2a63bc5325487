"""Grants the right to make one call now: a free slot on a usable key, and room in its limits.

Invariants:
- A permit is given back exactly once; a waiter that was cancelled leaves none behind.
- Interactive waiters go first, but every tenth permit looks at bulk first, so bulk never starves.
- Nobody waits for a key that cannot become usable before the waiter's own deadline.
- A key that failed lately, or for the same batch, is passed over while another one is usable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from embedpool_shared.jobs import LaneClass
from embedpool_worker.breaker import Breaker
from embedpool_worker.deployments import Adapter, Deployment, ProviderKey
from embedpool_worker.headroom import Headroom, Need, Share
from embedpool_worker.key_policy import KeyPolicy
from embedpool_worker.key_refusals import changes_at, in_vain, too_late
from embedpool_worker.keyring import KeyHealth, candidates, choose, to_ask
from embedpool_worker.retry_budget import RetryBudget
from embedpool_worker.shared_keys import SharedKeys
from embedpool_worker.verdicts import no_keys

BULK_FLOOR_EVERY: Final = 10
TIMER_GRAIN_S: Final = 0.001
"""uvloop's timers count milliseconds and may ring a little early; a shorter one would ring at once,
again and again."""


@dataclass(slots=True, eq=False)
class Permit:
    """One call may be made with this key."""

    health: KeyHealth
    lane_class: LaneClass
    share: Share | None = None  # of the key's limits, where it has any
    is_given_back: bool = False

    @property
    def max_tokens(self) -> int | None:
        """How many tokens the call may have; None is no limit of the key's."""
        headroom = self.health.headroom
        has_limit = headroom is not None and headroom.tpm is not None
        return self.share.tokens if self.share and has_limit else None

    def is_good(self, now: float) -> bool:
        """Tell whether a call may still begin: the key did not come to rest, the lease holds."""
        return self.health.is_usable(now) and (
            self.share is None or self.share.is_used or now < self.share.valid_until_at
        )

    def begin(self, tokens: int) -> None:
        """Make a call of about so many tokens: from now on the provider may count it."""
        if self.max_tokens is not None:
            self.settle(tokens)
        if self.share:
            self.share.is_used = True

    def settle(self, tokens: int) -> None:
        """Count so many tokens for the call, as far as is known by now."""
        if self.share and self.health.headroom:
            self.health.headroom.settle(self.share, tokens)


@dataclass(slots=True, eq=False)
class _Waiter:
    keys: Sequence[KeyHealth]
    lane_class: LaneClass
    until_at: float
    need: Callable[[], Need]
    avoided: Collection[KeyHealth]
    granted: asyncio.Future[Permit]


class Permits:
    """All keys this process may use, and who waits for one."""

    def __init__(
        self,
        *,
        slots_per_key: int,
        policy: KeyPolicy | None = None,
        shared: SharedKeys | None = None,
    ) -> None:
        """Without `shared` this process is alone with its keys, and knows no limits."""
        self.policy = policy or KeyPolicy()
        self.shared = shared
        self._slots_per_key = slots_per_key
        self.retry_budget = RetryBudget()
        self._keys: dict[tuple[str, str], KeyHealth] = {}
        self._waiters: dict[LaneClass, deque[_Waiter]] = {c: deque() for c in LaneClass}
        self._grants = 0
        self._alarm: asyncio.TimerHandle | None = None
        if shared:
            shared.on_contact = self.refuse_unserved

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
            health = self._keys[name] = self._made(deployment, key)
            health.is_foreign = deployment.is_callers_own
            if self.shared and not (deployment.adapter is Adapter.LOCAL or health.is_foreign):
                if deployment.rpm or deployment.tpm:
                    health.headroom = Headroom(deployment.rpm, deployment.tpm)
                self.shared.join(health)
        return health

    def _made(self, deployment: Deployment, key: ProviderKey | None) -> KeyHealth:
        # The local model computes one call at a time.
        slots = 1 if deployment.adapter is Adapter.LOCAL else self._slots_per_key
        breaker = Breaker(self.policy.allowed_fails, self.policy.cooldown_s)
        return KeyHealth(deployment, key, slots, breaker=breaker)

    def at_once(
        self,
        deployments: Sequence[Deployment],
        lane_class: LaneClass,
        *,
        need: Callable[[], Need] = Need,
        avoided: Collection[KeyHealth] = (),
    ) -> Permit | None:
        """Take a permit where one is to be had and nobody waits for any."""
        if any(self._waiters.values()):
            return None
        keys = self.keys_of(deployments)
        now = asyncio.get_running_loop().time()
        self._keep_in_touch(keys, now)
        return self._take(keys, lane_class, need, avoided, now)

    async def acquire(
        self,
        deployments: Sequence[Deployment],
        lane_class: LaneClass,
        *,
        until_at: float,
        need: Callable[[], Need] = Need,
        avoided: Collection[KeyHealth] = (),
    ) -> Permit:
        """Wait for a permit; `need` is asked again whenever one might be had.

        Once none can come before `until_at` it raises `NoKeys`, or `Overloaded` where only limits
        are in the way; and `DeadlineExceeded` when a wait for limits took longer than foreseen.
        """
        permit = self.at_once(deployments, lane_class, need=need, avoided=avoided)
        if permit:
            return permit
        keys = self.keys_of(deployments)
        if not keys:
            raise no_keys(deployments[0].provider, retry_after_s=None)
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._keep_in_touch(keys, now)
        refusal = in_vain(keys, lane_class, until_at=until_at, now=now)
        if refusal:
            raise refusal
        waiter = _Waiter(keys, lane_class, until_at, need, avoided, loop.create_future())
        self._waiters[lane_class].append(waiter)
        self._grant()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    def _keep_in_touch(self, keys: Sequence[KeyHealth], now: float) -> None:
        if self.shared:
            for key in keys:
                if key.contact_due_at <= now:
                    key.contact_due_at = now + 1.0  # asked once is enough
                    self.shared.ask(key)

    def give_back(self, permit: Permit) -> None:
        """End the call; the slot goes to whoever is next."""
        if permit.is_given_back:
            return
        permit.is_given_back = True
        health = permit.health
        health.give_back(permit.lane_class)
        if permit.share and health.headroom:
            health.headroom.give_back(permit.share)
            if self.shared:
                self.shared.stir()
        if health.is_foreign:
            self._forget_foreign(health)
        if any(self._waiters.values()):
            self._grant()

    def refuse_unserved(self) -> None:
        """Wake every waiter with nothing to wait for any more, and serve those that can be."""
        self._refuse(asyncio.get_running_loop().time())
        self._grant()

    def _refuse(self, now: float) -> None:
        for waiter in [w for queue in self._waiters.values() for w in queue]:
            refusal = in_vain(waiter.keys, waiter.lane_class, until_at=waiter.until_at, now=now)
            if refusal and not waiter.granted.done():
                waiter.granted.set_exception(refusal)

    def _take(
        self,
        keys: Sequence[KeyHealth],
        lane_class: LaneClass,
        need: Callable[[], Need],
        avoided: Collection[KeyHealth],
        now: float,
    ) -> Permit | None:
        keys = candidates(keys, avoided, lane_class, now=now)
        needed = need() if [key for key in keys if key.headroom] else None
        health = choose(keys, lane_class, now=now, need=needed)
        if health is None:
            return None
        share = health.take_share(needed, now=now) if needed else None
        health.take(lane_class)
        self._grants += 1
        return Permit(health, lane_class, share)

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
                permit = self._take(waiter.keys, lane_class, waiter.need, waiter.avoided, now)
                if permit:
                    waiter.granted.set_result(permit)
                else:
                    queue.append(waiter)
                    self._ask_for_room(waiter, now)
        self._set_alarm(now)

    def _ask_for_room(self, waiter: _Waiter, now: float) -> None:
        if self.shared:
            keys = candidates(waiter.keys, waiter.avoided, waiter.lane_class, now=now)
            health = to_ask(keys, waiter.lane_class, now=now)
            if health:
                self.shared.ask(health, health.bounded(waiter.need()), waiter.lane_class)

    def _set_alarm(self, now: float) -> None:
        """Look again when a key has rested, limits have room again, or a wait for them is over."""
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        waiters = [waiter for queue in self._waiters.values() for waiter in queue]
        instants = {at for w in waiters for key in w.keys for at in changes_at(key, w.lane_class)}
        instants |= {w.until_at for w in waiters if any(key.headroom for key in w.keys)}
        future = [at for at in instants if at > now]
        if future:
            at = max(min(future), now + TIMER_GRAIN_S)
            self._alarm = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        for waiter in [w for queue in self._waiters.values() for w in queue]:
            is_limited = any(key.headroom for key in waiter.keys)
            if is_limited and waiter.until_at <= now and not waiter.granted.done():
                waiter.granted.set_exception(too_late())
        self._grant()

    def _forget(self, waiter: _Waiter) -> None:
        if waiter.granted.done() and not waiter.granted.cancelled():
            if waiter.granted.exception() is None:
                self.give_back(waiter.granted.result())
        elif waiter in self._waiters[waiter.lane_class]:
            self._waiters[waiter.lane_class].remove(waiter)

    def _forget_foreign(self, health: KeyHealth) -> None:
        if not health.in_flight and health.key:
            is_wanted = any(health in w.keys for queue in self._waiters.values() for w in queue)
            if not is_wanted:
                self._keys.pop((health.deployment.id, health.key.id), None)
