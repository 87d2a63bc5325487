"""Keeps the leases of one lane: renews what is held, takes over what nobody renewed.

The pending list of the consumer group is the only record of who holds what. One script call per
beat does both; an idle lane beats slowly, and at once when a worker was seen to vanish.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import random
from typing import Any, Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, LaneNames
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script
from embedpool_worker.clock import RedisClock
from embedpool_worker.held import HeldPack

BEATS_PER_LEASE: Final = 4
IDLE_BEAT_S: Final = 15.0
MOST_TAKEN_OVER: Final = 64
"""Entries taken over per class and beat."""

Delivery = tuple[LaneClass, bytes, Sequence[bytes], int]
"""Class, entry id, flat fields, deliveries before this one that the entry itself does not count."""


class Leases:
    """Owns one lane's lease line and the set of packs held."""

    def __init__(
        self,
        line: Line,
        names: LaneNames,
        clock: RedisClock,
        *,
        consumer: str,
        lease_s: float,
        on_taken_over: Callable[[list[Delivery]], None],
    ) -> None:
        """Hand entries that were taken over to `on_taken_over`."""
        self._line = line
        self._names = names
        self._clock = clock
        self._consumer = consumer
        self._lease_s = lease_s
        self.on_lost: Callable[[], None] = lambda: None
        """Hears of every pack that turns out to be somebody else's by now."""
        self._on_taken_over = on_taken_over
        self._held: dict[LaneClass, dict[str, HeldPack]] = {c: {} for c in LaneClass}
        self._releases: dict[str, asyncio.Event] = {}
        self._cursors = dict.fromkeys(LaneClass, "0-0")
        self._is_active = True
        self._hurry = asyncio.Event()
        self._beaten = asyncio.Event()
        self._ended: set[tuple[LaneClass, str]] = set()  # since the last beat
        self._ended_before: set[tuple[LaneClass, str]] = set()  # and since the one before

    async def has_beaten(self) -> None:
        """Wait for the first beat: from then on the clock is known."""
        await self._beaten.wait()

    def hold(self, pack: HeldPack) -> None:
        """Renew this pack from now on."""
        self._held[pack.lane_class][pack.entry_id] = pack
        if not self._is_active:
            # Leaving the idle rhythm, not beating faster than the lease needs.
            self._is_active = True
            loop = asyncio.get_running_loop()
            loop.call_later(self._lease_s / BEATS_PER_LEASE, self._hurry.set)

    def release(self, pack: HeldPack) -> None:
        """Stop renewing it."""
        self._held[pack.lane_class].pop(pack.entry_id, None)
        released = self._releases.pop(pack.entry_id, None)
        if released:
            released.set()
        if not pack.is_lost:
            self._ended.add((pack.lane_class, pack.entry_id))

    async def until_released(self, pack: HeldPack) -> None:
        """Wait until this pack is nothing of ours any more."""
        if self.holds(pack.lane_class, pack.entry_id):
            await self._releases.setdefault(pack.entry_id, asyncio.Event()).wait()

    def holds(self, lane_class: LaneClass, entry_id: str) -> bool:
        """Tell whether this entry is in our hands."""
        return entry_id in self._held[lane_class]

    def knows(self, lane_class: LaneClass, entry_id: str) -> bool:
        """Tell whether this entry is in our hands, or was until a moment ago.

        A look at what is pending may cross the commit that ends it; a second call would be waste.
        """
        place = (lane_class, entry_id)
        has_ended = place in self._ended or place in self._ended_before
        return has_ended or self.holds(lane_class, entry_id)

    def held(self, lane_class: LaneClass) -> list[HeldPack]:
        """List the packs held."""
        return list(self._held[lane_class].values())

    def hurry(self) -> None:
        """Beat now, and often until nothing is pending: somebody may have left work behind."""
        self._is_active = True
        self._hurry.set()

    async def run(self) -> None:
        """Beat for ever."""
        failures = 0
        while True:
            try:
                await self._beat()
                failures = 0
            except QueueUnavailable:
                failures += 1
                self._is_active = True
                await asyncio.sleep(pause_s(failures, draw=random()))
                continue
            await self._until_next_beat()

    async def _until_next_beat(self) -> None:
        beat_s = self._lease_s / BEATS_PER_LEASE if self._is_active else IDLE_BEAT_S
        with suppress(TimeoutError):
            async with asyncio.timeout(beat_s):
                await self._hurry.wait()
        self._hurry.clear()

    async def _beat(self) -> None:
        arguments: list[Any] = [
            GROUP, self._consumer, int(self._lease_s * 1_000), MOST_TAKEN_OVER,
        ]  # fmt: skip
        for lane_class in LaneClass:
            held = self._held[lane_class]
            arguments += [self._cursors[lane_class], len(held), *held]
        streams = [self._names.stream(lane_class) for lane_class in LaneClass]
        time_us, *answers = await self._line.run(script("keep"), streams, arguments)
        self._clock.learn(time_us, now=asyncio.get_running_loop().time())
        self._beaten.set()
        self._ended_before, self._ended = self._ended, set()
        pending = 0
        for lane_class, (cursor, lost, taken, still_pending) in zip(
            LaneClass, answers, strict=True
        ):
            self._cursors[lane_class] = cursor.decode()
            self._drop(lane_class, lost)
            pending += still_pending
            if taken:
                self._on_taken_over([(lane_class, entry, f, n) for entry, n, f in taken])
        self._is_active = pending > 0 or any(self._held.values())

    def _drop(self, lane_class: LaneClass, lost: list[bytes]) -> None:
        for entry_id in lost:
            # A pack committed since the beat was sent is not pending either; it released itself.
            pack = self._held[lane_class].pop(entry_id.decode(), None)
            if pack is not None:
                pack.is_lost = True
                self.on_lost()
