"""How far a batch is booked: its checkpoint and its bill, one and the same in Redis.

Invariants:
- A part is booked once: its ledger records, its counts and the place to go on from, in one script.
- Whoever was overtaken by a younger epoch books nothing more.
- Redis away only delays; what it may or may not have done is sent again as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from random import random
from typing import Any, Final

from embedpool_shared.backoff import pause_s
from embedpool_shared.batches import COMPLETION_WINDOW_S
from embedpool_shared.errors import PoolError, QueueUnavailable
from embedpool_shared.jobs import LedgerRecord, encode
from embedpool_shared.names import LaneNames
from embedpool_shared.redis import Line, RedisRefused
from embedpool_shared.scripts import Script, script
from embedpool_worker.commit import LEDGER_BOUND

log = logging.getLogger(__name__)

KEPT_S: Final = 2 * COMPLETION_WINDOW_S
"""A batch that nobody goes on with has expired by then."""
FORGOTTEN_AFTER_S: Final = 60
"""Whoever was overtaken may still ask whether its last part was booked."""
_PART: Final = b"part:"


class NotBooked(PoolError):
    """Nothing of a part was booked, and nothing will be."""


class Superseded(NotBooked):
    """Another process goes on with the batch."""


class OutOfStep(NotBooked):
    """Something else was booked than this run knows of; it has to begin from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a batch goes on, and what it has come to."""

    line: int = 0  # the last one booked; the first is 1
    offset: int = 0  # the byte at which the next one begins
    completed: int = 0
    failed: int = 0
    tokens: int = 0
    cost_pico_usd: int = 0
    cut: str = ""  # why the last lines booked were not sent; "" where they were
    parts: tuple[str, ...] = ()  # in the order of the file
    assembled: str = ""  # how long the finished files are, once they are
    claim: int = 0  # how often the batch was begun or gone on with


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What is booked at once: lines that ended, whose results are safe in the file store."""

    before: int  # the line booked last
    last: int
    next_byte: int
    part: str
    cut: str = ""
    completed: int
    failed: int
    records: Sequence[LedgerRecord] = ()

    @property
    def tokens(self) -> int:
        """The usage of its lines."""
        return sum(record.used for record in self.records)

    @property
    def cost_pico_usd(self) -> int:
        """What they are charged."""
        return sum(record.cost_pico_usd for record in self.records)

    def after(self, so_far: Checkpoint) -> Checkpoint:
        """Where the batch goes on once this is booked."""
        return Checkpoint(
            line=self.last,
            offset=self.next_byte,
            completed=so_far.completed + self.completed,
            failed=so_far.failed + self.failed,
            tokens=so_far.tokens + self.tokens,
            cost_pico_usd=so_far.cost_pico_usd + self.cost_pico_usd,
            cut=self.cut,
            parts=(*so_far.parts, self.part),
            assembled=so_far.assembled,
            claim=so_far.claim,
        )


class Booking:
    """Owns one batch's line to its lane's books."""

    def __init__(self, line: Line, names: LaneNames, batch_id: str, *, epoch: int) -> None:
        """Book under `epoch`."""
        self._line = line
        self._names = names
        self._batch_id = batch_id
        self._epoch = epoch
        self._claim = 0

    async def claim(self) -> Checkpoint:
        """Take the batch over, and say where it goes on; raises `Superseded`."""
        is_ours, *flat = await self._until_redis_answers(
            script("claim"), [self._booked], [self._epoch, KEPT_S]
        )
        if not is_ours:
            raise Superseded("a younger epoch has the batch")
        found = _checkpoint(dict(zip(flat[::2], flat[1::2], strict=True)))
        self._claim = found.claim
        return found

    async def book(self, part: Booked) -> None:
        """Book a part, once; raises `Superseded`, and `OutOfStep` where another line is next."""
        arguments: list[Any] = [
            self._epoch, self._claim, part.before, part.last, part.next_byte, KEPT_S, part.part,
            part.cut, part.completed, part.failed, part.tokens, part.cost_pico_usd, LEDGER_BOUND,
            encode(list(part.records)) if part.records else b"",
        ]  # fmt: skip
        names = [self._booked, self._names.ledger]
        state = await self._until_redis_answers(script("book"), names, arguments)
        if state == 0:
            raise Superseded("another claim has the batch")
        if state < 0:
            raise OutOfStep(f"line {part.before} is not the one booked last")

    async def assembled(self, text: str) -> None:
        """Remember that the results are put together, so that the parts may go."""
        await self._line.call("HSET", self._booked, "assembled", text)

    async def forget(self) -> None:
        """The batch is over: whoever asks sees it in its record."""
        await self._line.call("EXPIRE", self._booked, FORGOTTEN_AFTER_S)

    @property
    def _booked(self) -> str:
        return self._names.booked(self._batch_id)

    async def _until_redis_answers(
        self, what: Script, keys: list[str], arguments: list[Any]
    ) -> Any:
        failures = 0
        while True:
            try:
                return await self._line.run(what, keys, arguments)
            except QueueUnavailable as unavailable:
                if isinstance(unavailable, RedisRefused):
                    log.error("booking_refused batch=%s error=%s", self._batch_id, unavailable)  # noqa: TRY400
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1


def _checkpoint(fields: dict[bytes, bytes]) -> Checkpoint:
    parts = sorted(
        (int(name.removeprefix(_PART)), part)
        for name, part in fields.items()
        if name.startswith(_PART)
    )
    return Checkpoint(
        line=int(fields.get(b"line", 0)),
        offset=int(fields.get(b"offset", 0)),
        completed=int(fields.get(b"completed", 0)),
        failed=int(fields.get(b"failed", 0)),
        tokens=int(fields.get(b"tokens", 0)),
        cost_pico_usd=int(fields.get(b"cost", 0)),
        cut=fields.get(b"cut", b"").decode(),
        parts=tuple(part.decode() for _, part in parts),
        assembled=fields.get(b"assembled", b"").decode(),
        claim=int(fields.get(b"claim", 0)),
    )
