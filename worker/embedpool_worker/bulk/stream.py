"""The lines of one batch, from its checkpoint to its last: in through the lane, out as parts.

Invariants:
- At most one window is under way or not yet booked: that is all a crash can cost.
- A line leaves in the order of the file, whatever became of it; none is left out, none comes twice.
- Once cut off, refused or expired nothing more is sent; the lines left are listed with the reason.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final

from embedpool_shared.batches import BatchRecord
from embedpool_shared.errors import EmbedPoolError
from embedpool_worker.bulk.batch_lines import BatchLine
from embedpool_worker.bulk.feeding import DirectLane, Feeder
from embedpool_worker.bulk.filling import Filler, pieces
from embedpool_worker.bulk.flushing import Flusher
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.results import EXPIRED
from embedpool_worker.bulk.window import Window

AGAIN_GRAIN_S: Final = 0.25
"""Lines that are tried again at about the same time go together."""
IN_FLIGHT_S: Final = 30.0
"""How long a batch that is cut off waits for what is on its way."""


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
        self._expires_at = expires_at
        self._cut_at: float | None = None
        self._flusher = flusher
        self._window: Window[BatchLine] = Window()
        self._feeder = Feeder(lane, record, self._window, expires_at=expires_at)
        self._filler = Filler(means, record, lane, self._feeder, self._window)
        self._filler.go_on_from(flusher.so_far)
        self._feeder.on_change = self._filler.changed.set
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if flusher.so_far.cut:
            self.cut_off(flusher.so_far.cut)

    async def run(self) -> None:
        """Return when every line is booked; raises what reading and booking raise, and `stop`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(work)
                    for work in (self._filler.run(), self._send_again(), self._until_stopped())
                ]
                await self._flush()
                for task in beside:
                    task.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            self._feeder.abandon([*self._flusher.unbooked, *self._window.left])

    def refuse(self, refusal: EmbedPoolError | None) -> None:
        """Send nothing more while there is a refusal; the lines end with it."""
        self._feeder.refusal = refusal

    def keep_time(self) -> None:
        """Cut the batch off where its time is up, and hang up where it waited long enough."""
        if self._cut_at is not None and _now() > self._cut_at + IN_FLIGHT_S:
            self._feeder.hang_up()
        elif _now() >= self._expires_at:
            self.cut_off(EXPIRED)

    def cut_off(self, why: str) -> None:
        """Send nothing more, for that reason; a second one changes nothing."""
        if self._cut_at is None:
            self._cut_at = _now()
            self._feeder.cut_off(why)
            self._filler.changed.set()

    def stop(self, error: Exception) -> None:
        """End here, with that error."""
        if not self._stopped.done():
            self._stopped.set_exception(error)

    async def _until_stopped(self) -> None:
        await self._stopped

    async def _send_again(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_GRAIN_S)
            if not self._feeder.sends:
                self._feeder.end_resting(self._window.rested(now=inf))
                continue
            for piece in pieces(self._window.rested(now=_now()), lambda entry: entry.inputs):
                self._feeder.feed(piece)
                await asyncio.sleep(0)

    async def _flush(self) -> None:
        filler, window = self._filler, self._window
        while not (filler.is_read and window.is_empty):
            most, now = filler.max_inputs, _now()
            at = window.flush_at(max_inputs=most, is_last=filler.is_read, now=now)
            if at is None or at > now:
                await filler.until_changed(at)
                continue
            part = window.take(max_inputs=most, now=now)
            await self._flusher.flush(part)
            window.booked(part)
            filler.changed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
