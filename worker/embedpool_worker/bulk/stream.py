"""The lines of one batch, from its checkpoint to its last: in through the lane, out as parts.

Invariants:
- At most one window is under way or not yet booked: that is all a crash can cost.
- A line leaves in the order of the file, whatever became of it; none is left out, none comes twice.
- Once cut off, refused or expired nothing more is sent; the lines left are listed with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf
from random import random
from typing import Final, TypeVar

from embedpool_shared.batches import BatchRecord
from embedpool_shared.errors import EmbedPoolError, StoreUnavailable
from embedpool_worker.bulk.batch_lines import BatchLine, Entry, entry_of
from embedpool_worker.bulk.feeding import DirectLane, Feeder
from embedpool_worker.bulk.flushing import Flusher
from embedpool_worker.bulk.line_reader import (
    Block,
    LineJob,
    LineReader,
    LineRefused,
    ReadAhead,
    read_ahead,
)
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.patience import pause_s
from embedpool_worker.bulk.results import EXPIRED
from embedpool_worker.bulk.window import Window, share

PIECE_INPUTS: Final = 128
"""Fed before somebody else has a turn on the loop."""
AGAIN_GRAIN_S: Final = 0.25
"""Lines that are tried again at about the same time go together."""
IN_FLIGHT_S: Final = 30.0
"""How long a batch that is cut off waits for what is on its way."""

T = TypeVar("T")


class Stream:
    """Brings the lines of one batch to their end."""

    def __init__(
        self,
        means: Means,
        record: BatchRecord,
        lane: DirectLane,
        flusher: Flusher,
        *,
        expires_at: float,
    ) -> None:
        """Go on from where `flusher` is; `expires_at` is on the loop's clock."""
        self.cut = ""
        self.refusal: EmbedPoolError | None = None
        """Why its key may send nothing more, if so."""
        self._cut_at: float | None = None
        self._expires_at = expires_at
        self._means = means
        self._record = record
        self._flusher = flusher
        self._window: Window[BatchLine] = Window()
        self._changed = asyncio.Event()
        self._lane = lane
        self._feeder = Feeder(
            lane, record, self._window, expires_at=expires_at, on_change=self._changed.set
        )
        self._line, self._byte = flusher.so_far.line, flusher.so_far.offset
        self._is_read = False
        if flusher.so_far.cut:
            self.cut_off(flusher.so_far.cut)
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Return when every line is booked; raises what reading and booking raise, and `stop`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(work)
                    for work in (self._fill(), self._send_again(), self._until_stopped())
                ]
                await self._flush()
                for task in beside:
                    task.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            self._feeder.abandon(self._window.ended)

    def keep_time(self) -> None:
        """Cut the batch off where its time is up, and hang up where it waited long enough."""
        if self._cut_at is not None and _now() > self._cut_at + IN_FLIGHT_S:
            self._feeder.hang_up()
        elif _now() >= self._expires_at:
            self.cut_off(EXPIRED)

    def cut_off(self, why: str) -> None:
        """Send nothing more, for that reason; a second one changes nothing."""
        if not self.cut:
            self.cut, self._cut_at = why, _now()
            self._feeder.cut_off(why)
            self._changed.set()

    def stop(self, error: Exception) -> None:
        """End here, with that error."""
        if not self._stopped.done():
            self._stopped.set_exception(error)

    async def _until_stopped(self) -> None:
        await self._stopped

    async def _fill(self) -> None:
        failures = 0
        while not self._is_read:
            ahead = self._ahead()
            try:
                while block := await ahead.next():
                    await self._enter_all(block)
                    failures = 0
                self._is_read = True
                self._changed.set()
            except StoreUnavailable:
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1
            finally:
                await ahead.close()

    def _ahead(self) -> ReadAhead:
        means = self._means
        reader = LineReader(
            self._record,
            means.catalog,
            means.tokens,
            max_line_bytes=means.bounds.max_line_bytes,
            default_model=means.default_model,
        )
        return read_ahead(
            means.store, self._record.input_path, reader, offset=self._byte, number=self._line
        )

    async def _enter_all(self, block: Block) -> None:
        for piece in pieces(block, _inputs):
            while not self._window.has_room(max_inputs=self._max_inputs):
                await self._until_changed(None)
            await self._until_lane_has_room()
            self._enter(piece)
            await asyncio.sleep(0)

    async def _until_lane_has_room(self) -> None:
        """Wait for it, unless nothing more is sent anyway."""
        while not (self.cut or self.refusal):
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_GRAIN_S):
                    await self._lane.has_room()
                    return

    def _enter(self, piece: Block) -> None:
        now = _now()
        entries: list[Entry] = []
        for source in piece:
            entry = entry_of(source, begins_at=self._byte)
            self._line, self._byte = source.number, source.end_offset
            if not entry.has_ended and (self.cut or self.refusal):
                entry.line.cut, entry.line.error = self.cut, None if self.cut else self.refusal
                entry.has_ended = True
            self._window.enter(entry, now=now)
            if not entry.has_ended:
                entries.append(entry)
        self._feeder.feed(entries)
        if len(entries) < len(piece):
            self._changed.set()

    async def _send_again(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_GRAIN_S)
            if self.cut or self.refusal:
                self._feeder.end_resting(self._window.rested(now=inf), self.refusal)
                continue
            for piece in pieces(self._window.rested(now=_now()), lambda entry: entry.inputs):
                self._feeder.feed(piece)
                await asyncio.sleep(0)

    async def _flush(self) -> None:
        while not (self._is_read and self._window.is_empty):
            most, now = self._max_inputs, _now()
            at = self._window.flush_at(max_inputs=most, is_last=self._is_read, now=now)
            if at is None or at > now:
                await self._until_changed(at)
                continue
            part = self._window.take(max_inputs=most, now=now)
            await self._flusher.flush(part)
            self._window.booked(part)
            self._changed.set()

    async def _until_changed(self, at: float | None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(at):
                await self._changed.wait()

    @property
    def _max_inputs(self) -> int:
        return share(self._means.running(), dims=self._feeder.dims)


def pieces(listed: Sequence[T], inputs: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Cut lines into pieces that end as soon as they have enough inputs."""
    first = sum_ = 0
    for at, one in enumerate(listed, 1):
        sum_ += inputs(one)
        if sum_ >= PIECE_INPUTS or at == len(listed):
            yield listed[first:at]
            first, sum_ = at, 0


def _inputs(source: LineJob | LineRefused) -> int:
    return len(source.fitted.inputs) if isinstance(source, LineJob) else 1


def _now() -> float:
    return asyncio.get_running_loop().time()
