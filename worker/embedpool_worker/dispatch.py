"""Sends one batch and obeys the verdicts, until every input has its vector or its error.

Invariants:
- One bad input fails only its own job: a refused call is halved until the input stands alone.
- Whatever goes wrong with a batch ends that batch's jobs and nothing else.
- What a refusal teaches of a provider's caps holds from the next batch on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from embedpool_shared.errors import (
    CallTooLarge,
    CapExceeded,
    EmbedPoolError,
    InternalError,
    ProviderError,
    WrongAnswer,
)
from embedpool_worker.bisecting import (
    Part,
    TaughtCap,
    is_nobodys_fault,
    parts_of,
    taught_at_once,
    taught_by,
)
from embedpool_worker.calls import Batch, Calls, Made
from embedpool_worker.caps import Caps
from embedpool_worker.commit import Committer
from embedpool_worker.delivery import Delivery, Sending, jobs_of
from embedpool_worker.deployments import Deployment
from embedpool_worker.flights import Flight, Flights
from embedpool_worker.held import HeldJob, Item
from embedpool_worker.learned_caps import CapName, LearnedCaps
from embedpool_worker.permits import Permit
from embedpool_worker.providers.failures import is_about_every_input
from embedpool_worker.storing import Storing
from embedpool_worker.verdicts import Verdict, verdict

log = logging.getLogger(__name__)


class Dispatcher:
    """Sends batches of one lane."""

    def __init__(
        self,
        calls: Calls,
        committer: Committer,
        *,
        learned: LearnedCaps | None = None,
        storing: Storing | None = None,
    ) -> None:
        """Hand every ending to `committer` and every fresh vector to `storing`."""
        self.flights = Flights()
        self._calls = calls
        self.witness = calls.witness
        self._learned = learned or LearnedCaps()
        self._delivery = Delivery(committer, storing, calls.witness)

    def caps_of(self, deployment: Deployment) -> Caps:
        """Say how much a deployment takes in one call, by all that is known of it."""
        return self._learned.caps_of(deployment, now=_now())

    def fail(self, jobs: Iterable[HeldJob], error: EmbedPoolError) -> None:
        """End jobs with an error; what was paid for them so far is waste."""
        self._delivery.fail(jobs, error)

    def answer_from_cache(self, job: HeldJob, *, model: str) -> None:
        """End a job whose vectors were all known."""
        self._delivery.answer_from_cache(job, model=model)

    def take_off(self, batch: Batch) -> Sending:
        """Begin to send a batch: from now on equal inputs can join it."""
        whole = Part(batch.items)
        return Sending(batch, Flight(self.flights, batch.merge, whole.inputs), [whole])

    async def send(self, sending: Sending, permit: Permit | None) -> list[Item]:
        """End every job of a batch that has no other items waiting; never raises.

        Returns what is to be queued again: items that joined the batch on its way, lost it to its
        deadline and can wait longer themselves; and those whose cached vectors proved stale.
        """
        batch = sending.batch
        try:
            await self._send(sending, permit)
        except Exception:
            # Ending the process would take every other batch along, here and then elsewhere.
            log.exception("batch_failed model=%s items=%d", batch.merge.model, len(batch.items))
            joined = sending.flight.ended()
            self.fail(jobs_of([*batch.items, *joined]), InternalError("the worker failed"))
        finally:
            if permit:
                self._calls.permits.give_back(permit)
        return sending.again

    async def _send(self, sending: Sending, permit: Permit | None) -> None:
        (whole,) = sending.calls
        refused = [whole] if await self._is_refused(sending, whole, permit) else []
        while refused:
            parts = [part for one in refused for part in self._cut(one)]
            for one in refused:
                self.witness.split(one.refusal)
            sending.calls += parts
            were_refused = await asyncio.gather(
                *(self._is_refused(sending, part, None) for part in parts)
            )
            refused = [part for part, was in zip(parts, were_refused, strict=True) if was]
            if is_nobodys_fault(parts):
                for part in refused:
                    self._refuse(sending, part, _own_batch(sending, part))
                refused = []
        if len(sending.calls) > 1:
            self._learn(sending.calls, taught_by)

    async def _is_refused(self, sending: Sending, part: Part, permit: Permit | None) -> bool:
        """Make one call and end its items, unless it is refused in a way that asks for parts."""
        batch = _own_batch(sending, part)
        try:
            made = await self._made(batch, part, permit)
        except ProviderError as error:
            part.refusal, part.deployment = error, batch.asked_deployment
            if self._asks_for_parts(part, error):
                self._learn([part], taught_at_once)
                return True
            self._refuse(sending, part, batch)
        except EmbedPoolError as error:
            self._delivery.end_in_vain(sending, part, batch, error)
        else:
            part.was_answered, part.deployment = True, made.deployment
            try:
                self._delivery.share_out(sending, part, made)
            finally:
                self._calls.tell_soon(made)
        return False

    def _asks_for_parts(self, part: Part, error: ProviderError) -> bool:
        if verdict(error, inputs=2) is not Verdict.SPLIT or is_about_every_input(error):
            return False
        if verdict(error, inputs=len(part.inputs)) is Verdict.SPLIT:
            return True
        part.refused_alone()
        return False

    async def _made(self, batch: Batch, part: Part, permit: Permit | None) -> Made:
        """Make the call; a wrong answer may have been an accident, once."""
        try:
            return await self._calls.make(batch, part.inputs, permit)
        except WrongAnswer:
            budget = self._calls.permits.retry_budget
            if part.within is not None:
                raise
            if not budget.allows_another(_now()):
                self.witness.metrics.retry_refused(batch.asked)
                raise
        made = await self._calls.make(batch, part.inputs, None)
        return replace(made, tries=made.tries + 1)

    def _refuse(self, sending: Sending, part: Part, batch: Batch) -> None:
        if part.refusal is not None:
            batch.asked = part.deployment.provider if part.deployment else batch.asked
            self._delivery.refuse(sending, part, batch, part.refusal)

    def _cut(self, refused: Part) -> list[Part]:
        max_items = len(refused.inputs)
        is_too_large = isinstance(refused.refusal, CapExceeded | CallTooLarge)
        if refused.deployment is not None and is_too_large:
            max_items = self.caps_of(refused.deployment).max_items
        return parts_of(refused, max_items=max_items)

    def _learn(
        self, calls: Sequence[Part], taught: Callable[[Sequence[Part]], Iterable[TaughtCap]]
    ) -> None:
        """Remember what these calls taught, of each deployment by itself."""
        asked = {call.deployment.id: call.deployment for call in calls if call.deployment}
        now = _now()
        for deployment in asked.values():
            for cap in taught([call for call in calls if call.deployment is deployment]):
                name = CapName(deployment.id, cap.kind, cap.is_named)
                if self._learned.learn(name, cap.number, now=now):
                    log.warning("cap_learned name=%s number=%d", name, cap.number)


def _own_batch(sending: Sending, part: Part) -> Batch:
    whole = sending.batch
    if part is sending.calls[0]:
        return whole
    return Batch(list(part.items), whole.merge, whole.lane_class, whole.deployments)


def _now() -> float:
    return asyncio.get_running_loop().time()
