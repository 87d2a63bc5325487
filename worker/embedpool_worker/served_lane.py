"""One lane and all that serves it in this worker: read, admit, call, commit, lease, roll up.

Invariants:
- Work is read only where there is room for it, and only once the clock of Redis is known.
- What somebody else had before is admitted only where it is still open; a pack that keeps ending
  workers is taken apart, and its jobs are tried one at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from embedpool_shared.errors import PoolError, QueueUnavailable
from embedpool_shared.jobs import LaneClass, LedgerRecord
from embedpool_worker.calls import Calls
from embedpool_worker.caps import Caps
from embedpool_worker.clock import RedisClock
from embedpool_worker.commit import Committer
from embedpool_worker.deployments import Deployment
from embedpool_worker.dispatch import Dispatcher
from embedpool_worker.handover import HandBack
from embedpool_worker.held import HeldJob, HeldPack, held_pack
from embedpool_worker.lane import Lane, LaneBounds
from embedpool_worker.learned_caps import LearnedCaps
from embedpool_worker.leases import Delivery, Leases
from embedpool_worker.marks import Marks
from embedpool_worker.own_keys import own_deployment
from embedpool_worker.permits import Permits
from embedpool_worker.pool_parts import PoolParts, PoolSettings
from embedpool_worker.reader import Reader
from embedpool_worker.rollup import Roller
from embedpool_worker.suspects import Suspects

log = logging.getLogger(__name__)

MAX_DELIVERIES: Final = 3
"""After so many a pack is taken apart, and its jobs are suspects."""


class ServedLane:
    """One lane's parts, put together."""

    def __init__(
        self,
        model: str,
        settings: PoolSettings,
        parts: PoolParts,
        *,
        permits: Permits,
        clock: RedisClock,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """Prepare; `tasks` serve it. `spawn` begins something that may be cut off by a stop."""
        names, line = parts.names.lane(model), parts.line
        self._model = model
        self._parts = parts
        self._clock = clock
        self._spawn = spawn
        self._witness = parts.witness.lane(model)
        self.roller = Roller(
            line("roll"),
            line("roll-accounts"),
            parts.names,
            model,
            owner=settings.worker_id,
            witness=self._witness,
        )
        self.committer = Committer(
            line("commit"),
            names,
            clock,
            on_done=lambda pack: self.leases.release(pack),  # noqa: PLW0108 (made below)
            on_recorded=self.roller.notice,
            witness=self._witness,
        )
        self.lane = self._made_lane(settings, permits)
        self.leases = Leases(
            line("lease"),
            names,
            clock,
            consumer=settings.worker_id,
            lease_s=settings.lease_s,
            on_taken_over=self._on_read,
        )
        self.leases.on_lost = self._witness.metrics.leases_lost.add
        self.hand_back = HandBack(line("hand-back"), names, consumer=settings.worker_id)
        self._suspects = Suspects(
            self.hand_back,
            self.leases,
            admit=self.lane.admit,
            fail=self.lane.dispatcher.fail,
            on_buried=self._witness.metrics.dead_letters.add,
        )
        self._readers = [
            Reader(
                line("read"),
                names,
                lane_class,
                consumer=settings.worker_id,
                has_room=partial(self._has_room, lane_class),
                on_read=self._on_read,
            )
            for lane_class in LaneClass
        ]

    def feed(self, pack: HeldPack) -> None:
        """Send a direct pack on its way; after a stop it is dropped, and nothing comes home."""
        self.lane.admit(pack)

    async def has_room(self) -> None:
        """Wait until there is room for another piece of direct work."""
        await self.lane.has_direct_room()

    def booked(self) -> None:
        """The lane's ledger has more to roll up."""
        self.roller.notice()

    def withdraw(self) -> None:
        """End the cancelled jobs that still wait here."""
        self.lane.withdraw()

    def waste(self, record: LedgerRecord) -> None:
        """Book what was paid for a direct job that nobody books."""
        self.committer.waste(record)

    def _made_lane(self, settings: PoolSettings, permits: Permits) -> Lane:
        parts = self._parts
        calls = Calls(
            permits,
            parts.adapter_of,
            count_in=parts.count_in,
            caps_of=partial(_caps_now, parts.learned),
            max_tries=settings.max_tries,
            witness=self._witness,
        )
        lane = Lane(
            deployments_of=self._deployments_of,
            permits=permits,
            dispatcher=Dispatcher(
                calls, self.committer, learned=parts.learned, storing=parts.storing
            ),
            marks=Marks(parts.line("marks"), parts.names.lane(self._model)),
            bounds=LaneBounds(
                linger_s=settings.linger_s, max_waiting_items=settings.max_leased_items
            ),
            spawn=self._spawn,
        )
        lane.recall = parts.recall
        return lane

    def chores(self) -> list[Coroutine[Any, Any, None]]:
        """The tasks that run as long as the worker does."""
        return [self.committer.run(), self.leases.run(), self.roller.run()]

    def reading(self) -> list[Coroutine[Any, Any, None]]:
        """The tasks that bring new work in; a stop ends them first."""
        return [reader.run() for reader in self._readers]

    async def hand_back_untouched(self) -> None:
        """Give back every pack of which nothing was sent yet."""
        for lane_class in LaneClass:
            packs = [pack for pack in self.leases.held(lane_class) if not pack.is_begun]
            for pack in packs:
                pack.is_lost = True  # one still being admitted is not sent from here any more
                self.leases.release(pack)
            if packs:
                await self.hand_back.untouched(lane_class, [pack.entry_id for pack in packs])

    async def hand_back_everything(self) -> None:
        """Give back whatever is not committed."""
        for lane_class in LaneClass:
            await self.hand_back.everything(lane_class)

    def _deployments_of(self, job: HeldJob) -> Sequence[Deployment]:
        deployments = self._parts.deployments_of(self._model, job.merge)
        if not (job.job.sealed and deployments):
            return deployments
        return [own_deployment(deployments, job, self._parts.secrets)]

    async def _has_room(self, lane_class: LaneClass) -> None:
        # Before the first beat the clock is unknown: old work would look as if it just arrived.
        await self.leases.has_beaten()
        await self.lane.has_room(lane_class)

    def _on_read(self, entries: list[Delivery]) -> None:
        for entry in entries:
            pack = self._held(entry)
            if pack is None:
                continue
            if pack.deliveries:
                self._witness.metrics.redeliveries.add()
                self._spawn(self._admit_redelivered(pack))
            else:
                self.leases.hold(pack)
                self.lane.admit(pack)

    def _held(self, entry: Delivery) -> HeldPack | None:
        """Read an entry, unless we hold it already; one we cannot read is left to others."""
        lane_class, entry_id, flat, earlier = entry
        if self.leases.knows(lane_class, entry_id.decode()) or not flat:
            return None
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        now = asyncio.get_running_loop().time()
        try:
            return held_pack(
                lane_class,
                entry_id,
                fields,
                arrived_at=self._clock.instant(int(fields[b"t"]), now=now),
                earlier_deliveries=earlier,
                leased_at=now,
            )
        except (PoolError, ValueError, LookupError) as unreadable:
            log.error("pack_unreadable entry=%s error=%s", entry_id, type(unreadable).__name__)  # noqa: TRY400
            return None

    async def _admit_redelivered(self, pack: HeldPack) -> None:
        """Admit what is still open of a pack that somebody else had; take a dangerous one apart."""
        self.leases.hold(pack)
        await self.lane.marks.read([pack])
        if pack.is_lost:
            return
        if not pack.open:
            self.leases.release(pack)
            with suppress(QueueUnavailable):
                await self.hand_back.untouched(pack.lane_class, [pack.entry_id])
        elif pack.deliveries < MAX_DELIVERIES:
            self.lane.admit(pack)
        elif len(pack.numbers) > 1:
            self.leases.release(pack)
            with suppress(QueueUnavailable):
                await self.hand_back.one_by_one(pack.lane_class, pack.entry_id)
        else:
            await self._suspects.attend(pack)


def _caps_now(learned: LearnedCaps, deployment: Deployment) -> Caps:
    return learned.caps_of(deployment, now=asyncio.get_running_loop().time())
