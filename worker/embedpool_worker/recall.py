"""Looks inputs up in the vector cache before they are queued.

Invariants:
- A cache that is slow or away is a miss: nobody waits for it longer than `PATIENCE_S`, and while it
  does not answer nobody waits at all.
- A vector found goes to the very item it was looked up for; what is not found is queued.
- Only jobs that allow it are looked up, and never one with a caller's own provider key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import random
from typing import Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import CacheUse, MergeKey
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_worker.cached_vectors import (
    CachedVector,
    Spaces,
    agreeing,
    cached_from,
    content_of,
    dims_of,
)
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import HeldJob, HeldPack

PATIENCE_S: Final = 0.05
EXCHANGE_PATIENCE_S: Final = 1.0
"""After so long an exchange counts as lost, and the connection as broken."""
VECTORS_PER_EXCHANGE: Final = 256

DeploymentsOf = Callable[[HeldJob], Sequence[Deployment]]
"""Where a job may be sent; raises one of our errors where it may not be sent at all."""
Then = Callable[[HeldPack, list[tuple[HeldJob, str]]], None]
"""Takes a pack over again, with the jobs that are complete and the model each came from."""


@dataclass(slots=True, eq=False)
class _Question:
    """A pack whose inputs are being looked up."""

    pack: HeldPack
    then: Then
    dims: dict[MergeKey, int | None] = field(default_factory=dict)
    found: dict[HeldJob, dict[int, CachedVector]] = field(default_factory=dict)
    unanswered: int = 0
    is_over: bool = False
    alarm: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class _Name:
    question: _Question
    job: HeldJob
    position: int
    name: str


class Recall:
    """Owns a worker's line for reading the cache."""

    def __init__(
        self, line: Line, names: Names, digest: Callable[[bytes], str], spaces: Spaces
    ) -> None:
        """`digest` names content under the pool's secret."""
        self.hits = 0
        self.misses = 0
        self._line = line
        self._names = names
        self._digest = digest
        self._spaces = spaces
        self._asked: deque[_Name] = deque()
        self._wake = asyncio.Event()
        self.is_there = False
        self._is_late = False

    def look_up(self, pack: HeldPack, deployments_of: DeploymentsOf, then: Then) -> None:
        """Fill in what is known of a pack's vectors, and call `then`; at once if nobody knows."""
        question = _Question(pack, then)
        listed: list[_Name] = []
        if self.is_there and not self._is_late:
            for job in pack.open.values():
                listed += self._names_of(question, job, deployments_of)
        if not listed:
            then(pack, [])
            return
        question.unanswered = len(listed)
        loop = asyncio.get_running_loop()
        question.alarm = loop.call_later(PATIENCE_S, self._give_up_on, question)
        self._asked.extend(listed)
        self._wake.set()

    async def run(self) -> None:
        """Look up for ever."""
        failures = 0
        while True:
            try:
                await self._line.call("PING")
                self.is_there, failures = True, 0
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    while self._asked:
                        await self._exchange(self._take_some())
            except QueueUnavailable:
                self.is_there = self._is_late = False
                self._release_all()
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1

    def _names_of(
        self, question: _Question, job: HeldJob, deployments_of: DeploymentsOf
    ) -> list[_Name]:
        if not job.job.cache & CacheUse.READ or job.job.sealed or job.has_ended:
            return []
        deployments = deployments_of(job)
        if not deployments:
            return []
        question.dims[job.merge] = dims_of(job.merge, deployments)
        space = self._spaces.of(job.merge, deployments)
        return [
            _Name(question, job, n, self._names.vector(self._digest(content_of(space, given))))
            for n, given in enumerate(job.job.inputs)
        ]

    def _take_some(self) -> list[_Name]:
        taken: list[_Name] = []
        while self._asked and len(taken) < VECTORS_PER_EXCHANGE:
            name = self._asked.popleft()
            if not name.question.is_over:
                taken.append(name)
        return taken

    async def _exchange(self, asked: list[_Name]) -> None:
        if not asked:  # everybody went on before they were asked for: nothing is under way
            self._is_late = False
            return
        try:
            blobs = await self._line.call(
                "MGET", *(one.name for one in asked), patience_s=EXCHANGE_PATIENCE_S
            )
        except BaseException:
            self._asked.extendleft(reversed(asked))
            raise
        self._is_late = False
        for one, blob in zip(asked, blobs, strict=True):
            question = one.question
            cached = cached_from(blob)
            if cached is not None:
                question.found.setdefault(one.job, {})[one.position] = cached
            question.unanswered -= 1
            if not question.unanswered:
                self._release(question)

    def _give_up_on(self, question: _Question) -> None:
        """The cache is slow: go on with what is found, and ask no more until it has answered."""
        self._is_late = True
        self._release(question)

    def _release_all(self) -> None:
        while self._asked:
            self._release(self._asked.popleft().question)

    def _release(self, question: _Question) -> None:
        if question.is_over:
            return
        question.is_over = True
        if question.alarm is not None:
            question.alarm.cancel()
        complete = []
        for job, found in question.found.items():
            if agreeing(list(found.values()), question.dims[job.merge]) and not job.has_ended:
                self.hits += len(found)
                fill_in(job, found)
                if not job.missing:
                    complete.append((job, found[0].model))
        self.misses += sum(job.missing for job in question.pack.open.values())
        question.then(question.pack, complete)


def fill_in(job: HeldJob, found: dict[int, CachedVector]) -> None:
    """Give a job the vectors that were found for its inputs, by position."""
    for position, cached in found.items():
        job.vectors[position] = cached.vector
        job.missing -= 1
        job.used_tokens += cached.tokens
        job.cached_tokens += cached.tokens
        job.cached_items += 1
