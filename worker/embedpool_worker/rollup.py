"""The roll-up: what a lane's ledger says is added to everybody's accounts, exactly once.

Whoever has committed something looks soon after whether another worker is at it, and else takes the
lane's lease. A range of the ledger is taken, entered in the books and only then forgotten.

Invariants:
- A range is forgotten after all it says was entered; until then whoever holds the lease gets that
  very range again, and the books take nothing twice.
- A worker that lost the lease meanwhile can repeat, but neither forget nor skip anything.
- Redis away, here or where the accounts are, only delays.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from random import random
from typing import Final

from msgspec import MsgspecError

from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LedgerRecord, WireVersionUnknown, records_from
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisRefused
from embedpool_shared.scripts import script
from embedpool_worker.books import Books, pieces
from embedpool_worker.tallies import EVERYBODY, Tallies
from embedpool_worker.witness import LaneWitness, unwatched

log = logging.getLogger(__name__)

LEASE_MS: Final = 10_000
GATHER_S: Final = 0.5
"""After a commit others follow; one roll-up serves them all."""
AGAIN_S: Final = 0.5
LOOK_EVERY_S: Final = 15.0
"""How often to look where nothing was committed: somebody may have left records behind."""
NEWER_PAUSE_S: Final = 60.0
MAX_ENTRIES: Final = 1_000
MAX_BYTES: Final = 1024 * 1024
"""Of one range; a roll-up takes as many ranges as there are."""
READ_AT_ONCE: Final = 32
"""Entries read before somebody else has a turn on the loop."""

Entry = tuple[bytes, bytes]
"""A ledger entry: its id, its records."""


class Roller:
    """Owns one lane's two roll-up lines: to the lane, and to the accounts."""

    def __init__(
        self,
        lane_line: Line,
        accounts_line: Line,
        names: Names,
        model: str,
        *,
        owner: str,
        witness: LaneWitness | None = None,
    ) -> None:
        """Roll up the lane of `model` for the worker `owner`; both lines may be the same one."""
        self._line = lane_line
        self._names = names.lane(model)
        self._model = model
        self._books = Books(accounts_line, names, model)
        self._metrics = (witness or unwatched()).metrics
        self._owner = f"{owner}:{secrets.token_hex(4)}"
        self._noticed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def notice(self) -> None:
        """Roll up soon: the ledger has more."""
        self._idle.clear()
        self._noticed.set()

    async def drained(self) -> None:
        """Roll up at once, and wait until all that was noticed so far is rolled up."""
        self._hurry.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Roll up for ever."""
        failures = 0
        while True:
            self._noticed.clear()
            try:
                is_done = await self._roll_up()
                failures = 0
            except WireVersionUnknown as newer:
                # Without a renewal the lease ends soon, and a newer worker takes over.
                log.error("ledger_newer lane=%s error=%s", self._model, newer)  # noqa: TRY400
                await asyncio.sleep(NEWER_PAUSE_S)
            except QueueUnavailable as unavailable:
                if isinstance(unavailable, RedisRefused):
                    log.error("roll_up_refused lane=%s error=%s", self._model, unavailable)  # noqa: TRY400
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1
            else:
                await (self._until_there_is_more() if is_done else asyncio.sleep(AGAIN_S))

    async def _until_there_is_more(self) -> None:
        if not self._noticed.is_set():
            self._idle.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._noticed.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await self._hurry.wait()

    async def _roll_up(self) -> bool:
        """Roll up all that is there; False where another worker is at it."""
        done = b""
        while True:
            entries = await self._next_range(done)
            if not entries:
                return entries is not None
            tallies = await self._tallied(entries)
            await self._books.enter(entries, tallies)
            saved = tallies.of[EVERYBODY].saved
            self._metrics.rolled_up(tallies.paid(), saved, tallies.wasted.items())
            done, _ = entries[-1]

    async def _next_range(self, done: bytes) -> list[Entry] | None:
        """Forget the range that ends with `done`, and take the next; None without the lease."""
        is_ours, *found = await self._line.run(
            script("roll"),
            [self._names.roll, self._names.ledger],
            [self._owner, LEASE_MS, MAX_ENTRIES, MAX_BYTES, done],
        )
        return [(entry_id, fields[1]) for entry_id, fields in found[0]] if is_ours else None

    async def _tallied(self, entries: list[Entry]) -> Tallies:
        tallies = Tallies(self._model)
        for some in pieces(entries, READ_AT_ONCE):
            for entry in some:
                tallies.add(self._records(*entry))
            await asyncio.sleep(0)
        return tallies

    def _records(self, entry_id: bytes, blob: bytes) -> list[LedgerRecord]:
        """Read an entry; one that makes no sense says nothing, rather than stop all others."""
        try:
            return records_from(blob)
        except (MsgspecError, ValueError):
            log.exception("ledger_unreadable lane=%s entry=%s", self._model, entry_id)
            return []
