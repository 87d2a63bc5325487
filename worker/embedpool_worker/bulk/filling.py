"""Lets the lines of a batch enter its window, read a block ahead and fed a piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from random import random
from typing import Final, TypeVar

from embedpool_shared.batches import BatchRecord
from embedpool_shared.errors import StoreUnavailable
from embedpool_worker.bulk.batch_lines import BatchLine, Entry, entry_of
from embedpool_worker.bulk.booking import Checkpoint
from embedpool_worker.bulk.feeding import DirectLane, Feeder
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
from embedpool_worker.bulk.window import Window, share

PIECE_INPUTS: Final = 128
"""Fed before somebody else has a turn on the loop, or in the lane."""
GLANCE_S: Final = 0.25
"""So often whoever waits for room in the lane looks whether there is still something to send."""

T = TypeVar("T")


class Filler:
    """Fills the window of one batch, from its checkpoint to the end of its input."""

    def __init__(
        self,
        means: Means,
        record: BatchRecord,
        lane: DirectLane,
        feeder: Feeder,
        window: Window[BatchLine],
    ) -> None:
        """Begin at the first line; `go_on_from` another one."""
        self.is_read = False
        """Whether every line has entered."""
        self.changed = asyncio.Event()
        """Set whenever a line ended, a part was booked, or nothing more is sent."""
        self._means = means
        self._record = record
        self._lane = lane
        self._feeder = feeder
        self._window = window
        self._line = self._byte = 0

    def go_on_from(self, so_far: Checkpoint) -> None:
        """Leave out what is booked."""
        self._line, self._byte = so_far.line, so_far.offset

    @property
    def max_inputs(self) -> int:
        """How large the window is now."""
        return share(self._means.running(), dims=self._feeder.dims)

    async def run(self) -> None:
        """Return when all of the input has entered; raises `NotFound` where it is gone."""
        failures = 0
        while not self.is_read:
            ahead = self._ahead()
            try:
                while block := await ahead.next():
                    await self._enter_all(block)
                    failures = 0
                self.is_read = True
                self.changed.set()
            except StoreUnavailable:
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1
            finally:
                await ahead.close()

    async def until_changed(self, at: float | None) -> None:
        """Wait for the next change, until `at` at the latest."""
        self.changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(at):
                await self.changed.wait()

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
            while not self._window.has_room(max_inputs=self.max_inputs):
                await self.until_changed(None)
            await self._until_lane_has_room()
            self._enter(piece)
            await asyncio.sleep(0)

    async def _until_lane_has_room(self) -> None:
        """Wait for it, unless nothing more is sent anyway."""
        while self._feeder.sends:
            with suppress(TimeoutError):
                async with asyncio.timeout(GLANCE_S):
                    await self._lane.has_room()
                    return

    def _enter(self, piece: Block) -> None:
        now = asyncio.get_running_loop().time()
        entries: list[Entry] = []
        for source in piece:
            entry = entry_of(source, begins_at=self._byte)
            self._line, self._byte = source.number, source.end_offset
            if not entry.has_ended and not self._feeder.sends:
                self._feeder.mark_unsent(entry)
                entry.has_ended = True
            self._window.enter(entry, now=now)
            if not entry.has_ended:
                entries.append(entry)
        self._feeder.feed(entries)
        if len(entries) < len(piece):
            self.changed.set()


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
