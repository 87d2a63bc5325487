"""A request's jobs while their answers are out: one api process' futures. Pure but for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from embedpool_shared.errors import EmbedPoolError
from embedpool_shared.jobs import Job, JobReply, LaneClass, MergeKey, error_from

_PLACE: Final = re.compile(r"input\[(\d+)\]")


class Answer:
    """What one request waits for: the replies to all of its jobs, or the first error.

    `done` resolves to the replies in the order of the jobs. Whoever settles an answer first wins;
    a later reply, error or disconnect changes nothing.
    """

    __slots__ = ("_missing", "_on_replies", "done", "give_up_at", "jobs", "replies")

    def __init__(
        self,
        size: int,
        loop: asyncio.AbstractEventLoop,
        *,
        give_up_at: float,
        on_replies: Callable[[], None] | None = None,
    ) -> None:
        """Wait for `size` jobs until then, on the loop's clock.

        `on_replies` hears that all of them are there in that very moment; of an error it does not.
        """
        self.give_up_at = give_up_at
        self.done: asyncio.Future[Sequence[JobReply]] = loop.create_future()
        self.replies: list[JobReply | None] = [None] * size
        self.jobs: list[PostedJob] = []
        self._missing = size
        self._on_replies = on_replies

    def settle(self, position: int, reply: JobReply) -> None:
        """Take in one job's reply."""
        if self.done.done():
            return
        if reply.error is not None:
            self.fail(self._in_request(error_from(reply.error), position))
        elif self.replies[position] is None:
            self.replies[position] = reply
            self._missing -= 1
            if self._missing == 0:
                self.done.set_result([r for r in self.replies if r is not None])
                if self._on_replies is not None:
                    self._on_replies()

    def _in_request(self, error: EmbedPoolError, position: int) -> EmbedPoolError:
        """Name an input by its place in the request; the worker knew only the one in its job."""
        found = _PLACE.fullmatch(error.param or "")
        if found and position:
            earlier = sum(len(posted.job.inputs) for posted in self.jobs[:position])
            error.param = f"input[{earlier + int(found[1])}]"
        return error

    def fail(self, error: Exception) -> None:
        """End with an error, unless it ended already."""
        if not self.done.done():
            self.done.set_exception(error)

    def let_go(self) -> None:
        """Forget the jobs, which know it: what goes round in a circle waits for the collector.

        Measured: with every request's vectors waiting, the api took a fifth more of the CPU.
        """
        self.jobs.clear()
        self._on_replies = None

    @property
    def is_partly_lost(self) -> bool:
        """Tell, of an abandoned answer, whether one of its jobs never reached the queue."""
        return any(
            job.pack is None or job.pack.was_refused or not job.pack.was_sent for job in self.jobs
        )

    @property
    def is_accepted(self) -> bool:
        """Tell whether Redis confirmed every one of the jobs; not before they are posted."""
        return bool(self.jobs) and all(
            job.pack is not None and job.pack.is_accepted for job in self.jobs
        )


@dataclass(slots=True, eq=False)
class PostedJob:
    """One job of an answer, and the pack it left in."""

    answer: Answer
    position: int  # among the answer's jobs
    job: Job
    merge: MergeKey
    credential: bytes | None = field(default=None, repr=False)  # the caller's own provider key
    pack: PostedPack | None = None


@dataclass(slots=True, eq=False)
class PostedPack:
    """One pack on its way, and the jobs of it that are not answered yet."""

    pack_id: str
    lane_class: LaneClass
    jobs: int
    items: int
    size_bytes: int
    tokens: int
    budget_s: float
    open: dict[int, PostedJob] = field(default_factory=dict)
    is_accepted: bool = False
    was_sent: bool = False  # at least once, whatever came of it
    was_refused: bool = False  # Redis answered that it does not take it
    may_be_there: bool = False  # sent, and then the connection broke
    was_thinned: bool = False  # sent again without jobs that had ended by then
    was_answered: bool = False  # in part; then it is not the api's to delete any more
    cancelled: list[PostedJob] = field(default_factory=list)  # told to nobody yet
