"""Brings what a call came to home: vectors, bills and errors to the jobs it was made for.

Invariants:
- Vector i goes to item i; a job ends when its last item has its vector, or at its first error.
- Who joined a call under way gets what its input gets, and pays nothing; a call that only ran out
  of its own time ends nobody who can wait longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from embedpool_shared.errors import (
    DeadlineExceeded,
    EmbedPoolError,
    InputRefused,
    WrongAnswer,
)
from embedpool_shared.jobs import CallTrace
from embedpool_worker.accounting import item_tokens
from embedpool_worker.batch import Batch
from embedpool_worker.called import Called
from embedpool_worker.commit import Committer
from embedpool_worker.endings import Ending, answered, failed, late
from embedpool_worker.flights import Flight
from embedpool_worker.held import HeldJob, Item, requests_in, without_stale
from embedpool_worker.providers.failures import is_about_every_input
from embedpool_worker.providers.port import ProviderAnswer
from embedpool_worker.storing import Storing, may_be_kept
from embedpool_worker.verdicts import for_caller

DEADLINE_GRAIN_S: Final = 0.01
"""uvloop's timers count milliseconds: a call cut off at its deadline may end a little before it."""


@dataclass(slots=True, eq=False)
class Sending:
    """One batch on its way, whole or in parts."""

    flight: Flight
    calls: list[Batch]  # the whole first
    answered: list[Called] = field(default_factory=list)  # of which the witness has not heard yet
    again: list[Item] = field(default_factory=list)  # to be queued again when all is over


class Delivery:
    """Ends the jobs of one lane."""

    def __init__(self, committer: Committer, storing: Storing | None = None) -> None:
        """Hand every ending to `committer`, and every fresh vector to `storing`."""
        self._committer = committer
        self._storing = storing

    def fail(self, jobs: Iterable[HeldJob], error: EmbedPoolError) -> None:
        """End jobs with an error; what was paid for them so far is waste."""
        self._committer.end([failed(job, error) for job in jobs if not job.has_ended])

    def answer_from_cache(self, job: HeldJob, *, model: str) -> None:
        """End a job whose vectors were all known: no provider was asked."""
        dims = len(job.vectors[0] or b"") // 4
        trace = CallTrace(
            model, provider="", deployment="", items=job.cached_items, requests=1, tries=0,
            provider_ms=0.0,
        )  # fmt: skip
        now = asyncio.get_running_loop().time()
        self._committer.end([answered(job, dims, trace, began_at=now)])

    def share_out(self, sending: Sending, batch: Batch, called: Called) -> None:
        """Give each item of an answered call its vector, and end the jobs that have all theirs."""
        answer = called.answer
        if answer is None:
            raise ValueError("the call was not answered")
        joined, their_places = sending.flight.landed(batch.firsts)
        items, where = [*batch.items, *joined], [*batch.where, *their_places]
        trace = _trace(items, called, answer)
        is_one_caller = trace.requests == 1 and len(batch.inputs) == len(items)
        counted = item_tokens(
            total_tokens=answer.total_tokens,
            # A call for a single request: the provider's own figure is the caller's.
            exact=None if is_one_caller and answer.total_tokens is not None else called.exact,
            sizes=[item.size_bytes for item in batch.firsts.values()],
            where=where,
        )
        endings: list[Ending] = []
        for item, place, count in zip(items, where, counted, strict=True):
            job = item.job
            if job.has_ended:
                if count.paid:
                    self._committer.waste(late(job, trace.provider, count.paid))
                continue
            job.vectors[item.position] = vector = answer.vectors[place]
            job.missing -= 1
            job.used_tokens += count.used
            job.paid_tokens += count.paid
            if job.cached_items:
                sending.again += without_stale(job, len(vector))
            if job.missing == 0:
                endings.append(answered(job, answer.dims, trace, began_at=called.began_at))
        self._committer.end(endings)
        called.requests, called.joined = trace.requests, len(joined)
        if self._storing is not None:
            used = {place: count.used for place, count in zip(where, counted, strict=True)}
            self._storing.keep(
                batch.merge, batch.deployments, may_be_kept(items, where), answer, used
            )

    def refuse(self, sending: Sending, batch: Batch) -> None:
        """End a refused call's items with what that means to their callers."""
        error = batch.refusal
        if error is None:
            return
        if asyncio.get_running_loop().time() >= batch.deadline_at - DEADLINE_GRAIN_S:
            # Whatever the provider did meanwhile, that is what ended the wait.
            late_error = DeadlineExceeded(
                "No provider answered within the request's time", code="timeout"
            )
            self.end_in_vain(sending, batch, late_error)
            return
        ending = for_caller(error, batch.provider)
        is_about_one = isinstance(ending, InputRefused) and not is_about_every_input(error)
        if not isinstance(ending, InputRefused) and not isinstance(error, WrongAnswer):
            self.end_in_vain(sending, batch, ending)
            return
        joined, _ = sending.flight.landed(batch.firsts)
        for item in [*batch.items, *joined]:
            own = _about(item, ending) if is_about_one else ending
            self.fail([item.job], own)

    def end_in_vain(self, sending: Sending, batch: Batch, error: EmbedPoolError) -> None:
        """End a call's items with an error that is about no input of theirs.

        Whoever joined and can wait longer than the call could has not had its own chance yet.
        """
        until_at = batch.deadline_at
        joined, _ = sending.flight.landed(batch.firsts)
        sending.again += [item for item in joined if item.job.deadline_at > until_at]
        done = [item for item in joined if item.job.deadline_at <= until_at]
        self.fail(jobs_of([*batch.items, *done]), error)


def jobs_of(items: Iterable[Item]) -> set[HeldJob]:
    """Whose items these are."""
    return {item.job for item in items}


def _about(item: Item, error: EmbedPoolError) -> InputRefused:
    """Name the input by its place in its job; the api adds where in the request the job begins."""
    return InputRefused(error.message, param=f"input[{item.position}]", code=error.code)


def _trace(items: Sequence[Item], called: Called, answer: ProviderAnswer) -> CallTrace:
    return CallTrace(
        model=answer.model,
        provider=called.deployment.provider,
        deployment=called.deployment.id,
        items=len(items),
        requests=requests_in(items),
        tries=called.tries,
        provider_ms=round(called.took_s * 1_000, 3),
    )
