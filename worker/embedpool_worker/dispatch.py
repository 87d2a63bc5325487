"""Sends one batch, obeys the verdicts, and shares the answer out.

Invariants:
- Vector i goes to item i; a job ends when its last item has its vector, or at its first error.
- One bad input fails only its own job: a refused call is halved until the input stands alone.
- Whatever goes wrong with a batch ends that batch's jobs and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from embedpool_shared.errors import (
    DeadlineExceeded,
    EmbedPoolError,
    InputRefused,
    InternalError,
    ProviderError,
)
from embedpool_shared.jobs import CallTrace, Input
from embedpool_worker.accounting import ItemTokens, item_tokens
from embedpool_worker.calls import Batch, Calls, Made
from embedpool_worker.commit import Committer
from embedpool_worker.endings import Ending, answered, failed, late
from embedpool_worker.held import HeldJob, Item, input_size_bytes, requests_in
from embedpool_worker.packing import distinct
from embedpool_worker.permits import Permit
from embedpool_worker.providers.failures import is_about_every_input
from embedpool_worker.verdicts import Verdict, for_caller, verdict

log = logging.getLogger(__name__)

DEADLINE_GRAIN_S: Final = 0.01
"""uvloop's timers count milliseconds: a call cut off at its deadline may end a little before it."""


class Dispatcher:
    """Sends batches of one lane."""

    def __init__(self, calls: Calls, committer: Committer) -> None:
        """Hand every ending to `committer`."""
        self._calls = calls
        self._committer = committer

    async def send(self, batch: Batch, permit: Permit | None) -> None:
        """End every job of `batch` that has no other items waiting; never raises."""
        try:
            await self._send(batch, permit)
        except EmbedPoolError as error:
            self.fail(_jobs(batch), error)
        except Exception:
            # Ending the process would take every other batch along, here and then elsewhere.
            log.exception("batch_failed model=%s items=%d", batch.merge.model, len(batch.items))
            self.fail(_jobs(batch), InternalError("the worker failed"))
        finally:
            if permit:
                self._calls.permits.give_back(permit)

    def fail(self, jobs: Iterable[HeldJob], error: EmbedPoolError) -> None:
        """End jobs with an error; what was paid for them so far is waste."""
        self._committer.end([failed(job, error) for job in jobs if not job.has_ended])

    async def _send(self, batch: Batch, permit: Permit | None) -> None:
        inputs, where = distinct(batch.items)
        try:
            made = await self._calls.make(batch, inputs, permit)
        except ProviderError as error:
            judged = verdict(error, inputs=len(inputs))
            if judged is Verdict.SPLIT and not is_about_every_input(error):
                await self._split(batch, where, len(inputs))
            else:
                self._refuse(batch, error)
        else:
            self._share_out(batch, inputs, where, made)

    async def _split(self, batch: Batch, where: Sequence[int], inputs: int) -> None:
        pairs = list(zip(batch.items, where, strict=True))
        halves = (
            [item for item, place in pairs if place < inputs // 2],
            [item for item, place in pairs if place >= inputs // 2],
        )
        await asyncio.gather(
            *(
                self.send(Batch(half, batch.merge, batch.lane_class, batch.deployments), None)
                for half in halves
            )
        )

    def _refuse(self, batch: Batch, error: ProviderError) -> None:
        if asyncio.get_running_loop().time() >= batch.deadline_at - DEADLINE_GRAIN_S:
            # Whatever the provider did meanwhile, that is what ended the wait.
            late_error = DeadlineExceeded(
                "No provider answered within the request's time", code="timeout"
            )
            self.fail(_jobs(batch), late_error)
            return
        ending = for_caller(error, batch.asked)
        if not isinstance(ending, InputRefused) or is_about_every_input(error):
            self.fail(_jobs(batch), ending)
            return
        for item in batch.items:
            self.fail([item.job], _about(item, ending))

    def _share_out(
        self, batch: Batch, inputs: list[Input], where: Sequence[int], made: Made
    ) -> None:
        trace = _trace(batch, made)
        endings: list[Ending] = []
        counted = _counted(batch, inputs, where, made)
        for item, place, count in zip(batch.items, where, counted, strict=True):
            job = item.job
            if job.has_ended:
                self._committer.waste(late(job, trace.provider, count.paid))
                continue
            job.vectors[item.position] = made.answer.vectors[place]
            job.missing -= 1
            job.used_tokens += count.used
            job.paid_tokens += count.paid
            if job.missing == 0:
                endings.append(answered(job, made.answer.dims, trace, began_at=made.began_at))
        self._committer.end(endings)


def _jobs(batch: Batch) -> set[HeldJob]:
    return {item.job for item in batch.items}


def _about(item: Item, error: InputRefused) -> InputRefused:
    """Name the input by its place in its job; the api adds where in the request the job begins."""
    return InputRefused(error.message, param=f"input[{item.position}]", code=error.code)


def _trace(batch: Batch, made: Made) -> CallTrace:
    return CallTrace(
        model=made.answer.model,
        provider=made.deployment.provider,
        deployment=made.deployment.id,
        items=len(batch.items),
        requests=requests_in(batch.items),
        tries=made.tries,
        provider_ms=round(made.took_s * 1_000, 3),
    )


def _counted(
    batch: Batch, inputs: Sequence[Input], where: Sequence[int], made: Made
) -> list[ItemTokens]:
    total_tokens = made.answer.total_tokens
    is_one_caller = requests_in(batch.items) == 1 and len(inputs) == len(batch.items)
    return item_tokens(
        total_tokens=total_tokens,
        # A call for a single request: the provider's own figure is the caller's.
        exact=None if is_one_caller and total_tokens is not None else made.exact,
        sizes=[input_size_bytes(given) for given in inputs],
        where=where,
    )
