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

from embedpool_shared.errors import (
    CallTooLarge,
    CapExceeded,
    EmbedPoolError,
    InternalError,
    ProviderError,
    WrongAnswer,
)
from embedpool_worker.batch import Batch
from embedpool_worker.bisecting import (
    TaughtCap,
    is_nobodys_fault,
    parts_of,
    taught_at_once,
    taught_by,
)
from embedpool_worker.called import Called
from embedpool_worker.calls import Calls
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
        self._delivery = Delivery(committer, storing)

    def caps_of(self, deployment: Deployment) -> Caps:
        """Say how much a deployment takes in one call, by all that is known of it."""
        if not self._learned.knows(deployment):
            return deployment.caps
        return self._learned.caps_of(deployment, now=_now())

    def fail(self, jobs: Iterable[HeldJob], error: EmbedPoolError) -> None:
        """End jobs with an error; what was paid for them so far is waste."""
        self._delivery.fail(jobs, error)

    def answer_from_cache(self, job: HeldJob, *, model: str) -> None:
        """End a job whose vectors were all known."""
        self._delivery.answer_from_cache(job, model=model)

    def take_off(self, batch: Batch) -> Sending:
        """Begin to send a batch: from now on equal inputs can join it."""
        return Sending(Flight(self.flights, batch.merge, batch.firsts), [batch])

    async def send(self, sending: Sending, permit: Permit | None) -> list[Item]:
        """End every job of a batch that has no other items waiting; never raises.

        Returns what is to be queued again: items that joined the batch on its way, lost it to its
        deadline and can wait longer themselves; and those whose cached vectors proved stale.
        """
        batch = sending.calls[0]
        try:
            if await self._is_refused(sending, batch, permit):
                await self._search(sending, batch)
        except Exception:
            # Ending the process would take every other batch along, here and then elsewhere.
            log.exception("batch_failed model=%s items=%d", batch.merge.model, len(batch.items))
            joined = sending.flight.ended()
            self.fail(jobs_of([*batch.items, *joined]), InternalError("the worker failed"))
        finally:
            if permit:
                self._calls.permits.give_back(permit)
        return sending.again

    def tell(self, sending: Sending) -> None:
        """Tell the witness of the calls that were answered, once those who waited for them know."""
        answered, sending.answered = sending.answered, []
        for called in answered:
            self._calls.tell(called)

    async def _search(self, sending: Sending, batch: Batch) -> None:
        """Cut a refused batch until what is refused stands alone, and learn from it."""
        refused = [batch]
        while refused:
            parts = [part for one in refused for part in self._cut(one)]
            for one in refused:
                self.witness.split(one.refusal)
            sending.calls += parts
            were_refused = await asyncio.gather(
                *(self._is_refused(sending, part, None) for part in parts)
            )
            self.tell(sending)
            refused = [part for part, was in zip(parts, were_refused, strict=True) if was]
            if is_nobodys_fault(parts):
                for part in refused:
                    self._delivery.refuse(sending, part)
                refused = []
        self._learn(sending.calls, taught_by)

    async def _is_refused(self, sending: Sending, batch: Batch, permit: Permit | None) -> bool:
        """Make one call and end its items, unless it is refused in a way that asks for parts."""
        try:
            try:
                called = await self._calls.make(batch, permit)
            except WrongAnswer as wrong:
                called = await self._second_chance(batch, wrong)
        except ProviderError as error:
            batch.refusal = error
            if self._asks_for_parts(batch, error):
                self._learn([batch], taught_at_once)
                return True
            self._delivery.refuse(sending, batch)
        except EmbedPoolError as error:
            self._delivery.end_in_vain(sending, batch, error)
        else:
            batch.was_answered = True
            sending.answered.append(called)
            self._delivery.share_out(sending, batch, called)
        return False

    def _asks_for_parts(self, part: Batch, error: ProviderError) -> bool:
        if verdict(error, inputs=2) is not Verdict.SPLIT or is_about_every_input(error):
            return False
        if verdict(error, inputs=len(part.inputs)) is Verdict.SPLIT:
            return True
        part.refused_alone()
        return False

    async def _second_chance(self, batch: Batch, wrong: WrongAnswer) -> Called:
        """Make a call again: a wrong answer may have been an accident, once."""
        if batch.within is not None:
            raise wrong
        if not self._calls.permits.retry_budget.allows_another(_now()):
            self.witness.metrics.retry_refused(batch.provider)
            raise wrong
        called = await self._calls.make(batch, None)
        called.tries += 1
        return called

    def _cut(self, refused: Batch) -> list[Batch]:
        max_items = len(refused.inputs)
        is_too_large = isinstance(refused.refusal, CapExceeded | CallTooLarge)
        if refused.asked is not None and is_too_large:
            max_items = self.caps_of(refused.asked).max_items
        return parts_of(refused, max_items=max_items)

    def _learn(
        self, calls: Sequence[Batch], taught: Callable[[Sequence[Batch]], Iterable[TaughtCap]]
    ) -> None:
        """Remember what these calls taught, of each deployment by itself."""
        asked = {call.asked.id: call.asked for call in calls if call.asked}
        now = _now()
        for deployment in asked.values():
            for cap in taught([call for call in calls if call.asked is deployment]):
                name = CapName(deployment.id, cap.kind, cap.is_named)
                if self._learned.learn(name, cap.number, now=now):
                    log.warning("cap_learned name=%s number=%d", name, cap.number)


def _now() -> float:
    return asyncio.get_running_loop().time()
