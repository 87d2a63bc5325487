"""Workers that share provider keys on one real server, with a second for a minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from embedpool_worker.deployments import Deployment
from embedpool_worker.headroom import Need
from embedpool_worker.key_care import KeyCare
from embedpool_worker.permits import Permit, Permits
from embedpool_worker.shared_keys import SharedKeys, Timing
from support.lane_bench import deployment

MINUTE_S: Final = 1.0
SHORT: Final = Timing(window_ms=1_400, grain_ms=50, lease_s=0.2)
"""A minute of one second, leases of 0.2 s, and 0.2 s for a loop that is late."""


@dataclass(eq=False)
class Member:
    """One worker: its permits, and the task that keeps in touch."""

    permits: Permits
    shared: SharedKeys
    task: asyncio.Task[None]
    care: KeyCare

    async def permit(
        self,
        place: Deployment,
        *,
        within_s: float = 30.0,
        tokens: int = 0,
        least: int | None = None,
    ) -> Permit:
        loop = asyncio.get_running_loop()
        return await self.permits.acquire(
            [place],
            LaneClass.INTERACTIVE,
            until_at=loop.time() + within_s,
            need=lambda: Need(tokens, tokens if least is None else least),
        )

    async def call(self, place: Deployment, **more: Any) -> float:
        """Make one call that takes no time; returns when it began."""
        permit = await self.permit(place, **more)
        permit.begin(permit.max_tokens or 0)
        at = asyncio.get_running_loop().time()
        self.permits.give_back(permit)
        return at

    async def kill(self) -> None:
        """End without another word."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@dataclass
class Crew:
    """All workers of one test."""

    url: str
    names: Names = field(default_factory=lambda: Names("t"))
    members: list[Member] = field(default_factory=list)

    def line(self) -> Line:
        return Line(connection_pool(RedisAddress(self.url), client_name="crew"))

    def hire(self, *, slots: int = 8) -> Member:
        number = len(self.members)
        shared = SharedKeys(self.line(), self.names, worker_id=f"host:{number}", timing=SHORT)
        permits = Permits(slots_per_key=slots, shared=shared)
        task = asyncio.create_task(shared.run())
        self.members.append(Member(permits, shared, task, KeyCare(permits)))
        return self.members[-1]


@asynccontextmanager
async def crew(url: str) -> AsyncIterator[Crew]:
    """Workers that end with the test."""
    all_of_them = Crew(url)
    try:
        yield all_of_them
    finally:
        for member in all_of_them.members:
            await member.kill()


def limited(key: str = "k", *, rpm: int | None = None, tpm: int | None = None) -> Deployment:
    """A deployment whose key has limits."""
    return deployment(key, rpm=rpm, tpm=tpm)
