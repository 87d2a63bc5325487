"""Makes one batch's provider call, obeys the verdicts, and shares the answer out.

Invariants:
- Vector i goes to item i; a job ends when its last item has its vector, or at its first error.
- Each try holds a permit of its own, given back before any pause.
- One bad input fails only its own job: a refused call is halved until the input stands alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import random
from typing import Any, Final

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from embedpool_shared import tokens
from embedpool_shared.errors import (
    DeadlineExceeded,
    EmbedPoolError,
    InternalError,
    KeyRejected,
    ProviderError,
    ProviderFailed,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
)
from embedpool_shared.jobs import (
    CallTrace,
    Input,
    JobReply,
    LaneClass,
    LedgerRecord,
    MergeKey,
    wire_error,
)
from embedpool_shared.vectors import FLOAT_BYTES
from embedpool_worker.accounting import item_tokens, saved_and_wasted
from embedpool_worker.commit import Committer, Ending, wasted
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import HeldJob, Item, input_size_bytes, requests_in
from embedpool_worker.packing import distinct
from embedpool_worker.permits import Permit, Permits
from embedpool_worker.providers.failures import is_about_every_input
from embedpool_worker.providers.port import Provider, ProviderAnswer, ProviderCall
from embedpool_worker.verdicts import Verdict, for_caller, verdict

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3
"""A key that had to be switched is no try: it rests now, and the permits do the waiting."""
FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 2.0
THROTTLED_FOR_S: Final = 1.0
"""How long a key cools after a 429 that does not say."""
SHORTEST_REST_S: Final = 0.1
"""… and at least, whatever it says: a provider is never hammered."""
QUOTA_REST_S: Final = 300.0
DEADLINE_GRAIN_S: Final = 0.01
"""uvloop's timers count milliseconds: a call cut off at its deadline may end a little before it."""


@dataclass(slots=True, eq=False)
class Batch:
    """The items of one call, and where it may be made."""

    items: list[Item]
    merge: MergeKey
    lane_class: LaneClass
    deployments: Sequence[Deployment]
    asked: str = ""  # the provider of the last try

    @property
    def deadline_at(self) -> float:
        """When the last of its callers stops listening."""
        return max(item.job.deadline_at for item in self.items)


@dataclass(slots=True, eq=False)
class _Made:
    """One answered call."""

    deployment: Deployment
    answer: ProviderAnswer
    tries: int
    began_at: float
    took_s: float
    exact: list[int] | None


class Dispatcher:
    """Sends batches of one lane."""

    def __init__(
        self,
        permits: Permits,
        committer: Committer,
        adapter_of: Callable[[Deployment], Provider],
        *,
        count_in: Callable[..., Any],
    ) -> None:
        """`count_in(function, *arguments)` awaits a function run off the loop."""
        self._permits = permits
        self._committer = committer
        self._adapter_of = adapter_of
        self._count_in = count_in

    async def send(self, batch: Batch, permit: Permit | None) -> None:
        """End every job of `batch` that has no other items waiting; never raises."""
        try:
            await self._send(batch, permit)
        except EmbedPoolError as error:
            self.fail({item.job for item in batch.items}, error)
        except Exception:
            # Ending the process would take every other batch along, here and then elsewhere.
            log.exception("batch_failed model=%s items=%d", batch.merge.model, len(batch.items))
            self.fail({item.job for item in batch.items}, InternalError("the worker failed"))
        finally:
            if permit:
                self._permits.give_back(permit)

    def fail(self, jobs: set[HeldJob] | Sequence[HeldJob], error: EmbedPoolError) -> None:
        """End jobs with an error; what was paid for them so far is waste."""
        self._committer.end([_failed(job, error) for job in jobs if not job.has_ended])

    async def _send(self, batch: Batch, permit: Permit | None) -> None:
        inputs, where = distinct(batch.items)
        try:
            made = await self._call(batch, inputs, permit)
        except ProviderError as error:
            judged = verdict(error, inputs=len(inputs))
            if judged is Verdict.SPLIT and not is_about_every_input(error):
                await self._split(batch, where, len(inputs))
            else:
                self.fail({item.job for item in batch.items}, _in_the_end(error, batch))
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

    async def _call(self, batch: Batch, inputs: list[Input], permit: Permit | None) -> _Made:
        tries = 0

        async def one_try() -> _Made:
            nonlocal permit, tries
            tries += 1
            mine, permit = permit, None
            if mine is None:
                mine = await self._permits.acquire(
                    batch.deployments, batch.lane_class, until_at=batch.deadline_at
                )
            try:
                return await self._one_try(batch, inputs, mine, tries)
            finally:
                self._permits.give_back(mine)

        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_worth_another_try),
            wait=_pause_s,
            stop=_is_enough(batch.deadline_at),
            reraise=True,
        )
        return await retrying(one_try)

    async def _one_try(
        self, batch: Batch, inputs: list[Input], permit: Permit, tries: int
    ) -> _Made:
        loop = asyncio.get_running_loop()
        deployment, key = permit.health.deployment, permit.health.key
        batch.asked = deployment.provider
        began_at = loop.time()
        timeout_s = min(deployment.timeout_s, batch.deadline_at - began_at)
        if timeout_s <= 0:
            raise DeadlineExceeded(
                "The request's deadline passed before a provider call could be made", code="timeout"
            )
        call = ProviderCall(
            model=deployment.upstream_of(batch.merge.model),
            inputs=inputs,
            dimensions=_forwarded_dimensions(batch.merge, deployment),
            params=msgspec.json.decode(batch.merge.params) if batch.merge.params else {},
            secret=key.secret if key else None,
            timeout_s=timeout_s,
        )
        counting = self._start_counting(deployment, inputs)
        try:
            async with asyncio.timeout(timeout_s + 1.0):
                answer = await self._adapter_of(deployment).embed(call)
            took_s = loop.time() - began_at
            exact = await counting if counting else _exact(inputs, answer)
        except TimeoutError:
            raise ProviderUnavailable("no answer in time") from None
        except ProviderError as error:
            self._mind_key(permit, error, now=loop.time())
            raise
        finally:
            if counting:
                counting.cancel()
        return _Made(deployment, answer, tries, began_at, took_s, exact)

    def _start_counting(self, deployment: Deployment, inputs: list[Input]) -> Any:
        """Count while the call is in flight, off the loop; None where we cannot count exactly."""
        if not deployment.encoding or not isinstance(inputs[0], str):
            return None
        return asyncio.ensure_future(
            self._count_in(tokens.count_all, deployment.encoding, inputs)
        )

    def _mind_key(self, permit: Permit, error: ProviderError, *, now: float) -> None:
        health = permit.health
        match error:
            case KeyRejected():
                health.retire()
            case QuotaExhausted():
                health.cool(now + QUOTA_REST_S)
            case ProviderThrottled():
                health.cool(now + max(SHORTEST_REST_S, error.retry_after_s or THROTTLED_FOR_S))
            case _:
                return
        self._permits.refuse_unserved()

    def _share_out(
        self, batch: Batch, inputs: list[Input], where: Sequence[int], made: _Made
    ) -> None:
        requests = requests_in(batch.items)
        is_one_caller = requests == 1 and len(inputs) == len(batch.items)
        answer = made.answer
        counted = item_tokens(
            total_tokens=answer.total_tokens,
            # A call for a single request: the provider's own figure is the caller's.
            exact=None if is_one_caller and answer.total_tokens is not None else made.exact,
            sizes=[input_size_bytes(given) for given in inputs],
            where=where,
        )
        trace = CallTrace(
            model=answer.model,
            provider=made.deployment.provider,
            deployment=made.deployment.id,
            items=len(batch.items),
            requests=requests,
            tries=made.tries,
            provider_ms=round(made.took_s * 1_000, 3),
        )
        endings = []
        for item, place, count in zip(batch.items, where, counted, strict=True):
            job = item.job
            if job.has_ended:
                self._committer.waste(_late(job, trace.provider, count.paid))
                continue
            job.vectors[item.position] = answer.vectors[place]
            job.missing -= 1
            job.used_tokens += count.used
            job.paid_tokens += count.paid
            if job.missing == 0:
                endings.append(_answered(job, answer.dims, trace, began_at=made.began_at))
        self._committer.end(endings)


def _in_the_end(error: ProviderError, batch: Batch) -> EmbedPoolError:
    """What to tell the callers: after their deadline that, whatever the provider did meanwhile."""
    if asyncio.get_running_loop().time() >= batch.deadline_at - DEADLINE_GRAIN_S:
        return DeadlineExceeded("No provider answered within the request's time", code="timeout")
    return for_caller(error, batch.asked)


def _forwarded_dimensions(merge: MergeKey, deployment: Deployment) -> int | None:
    """The size to ask the provider for; the model's own size is never asked for."""
    wanted = merge.dimensions or deployment.default_dimensions
    if not deployment.forwards_dimensions or wanted == deployment.native_dimensions:
        return None
    return wanted


def _answered(job: HeldJob, dims: int, trace: CallTrace, *, began_at: float) -> Ending:
    vectors = [vector or b"" for vector in job.vectors]
    if {len(vector) for vector in vectors} != {dims * FLOAT_BYTES}:
        # Parts of a job may come from different deployments; a mixture would be cut up wrongly.
        return _failed(job, ProviderFailed(f"[{trace.provider}] vectors of different lengths"))
    blob = vectors[0] if len(vectors) == 1 else b"".join(vectors)
    queue_ms = round(max(0.0, began_at - job.pack.arrived_at) * 1_000, 3)
    reply = JobReply(job.job.number, blob, dims, _used(job), queue_ms, trace)
    return Ending(job, reply, _record(job, trace.provider))


def _failed(job: HeldJob, error: EmbedPoolError) -> Ending:
    reply = JobReply(job.job.number, b"", 0, 0, error=wire_error(error))
    reason = "cancelled" if job.is_cancelled else type(error).__name__
    return Ending(job, reply, _record(job, "", reason=reason))


def _used(job: HeldJob) -> int:
    """The api's own count where it made one: ids count as themselves, whatever text they became."""
    return job.job.tokens or job.used_tokens


def _record(job: HeldJob, provider: str, *, reason: str = "") -> LedgerRecord:
    used = 0 if reason else _used(job)
    saved, waste = saved_and_wasted(used, job.paid_tokens)
    return LedgerRecord(
        pack_id=job.pack.pack_id,
        number=job.job.number,
        account=job.job.account,
        model=job.merge.model,
        provider=provider,
        used=used,
        paid=job.paid_tokens,
        saved=saved,
        waste=waste,
        reason=reason or ("count" if waste else ""),
    )


def _late(job: HeldJob, provider: str, paid: int) -> LedgerRecord:
    """Paid for an item of a job that had failed, or was answered elsewhere, in the meantime."""
    return wasted(
        LedgerRecord(
            job.pack.pack_id, job.job.number, job.job.account, job.merge.model, provider,
            used=0, paid=paid, saved=0, waste=paid,
        )
    )  # fmt: skip


def _exact(inputs: Sequence[Input], answer: ProviderAnswer) -> list[int] | None:
    """Token arrays count their ids; for texts the adapter may have counted."""
    if not isinstance(inputs[0], str):
        return [len(ids) for ids in inputs]
    return None if answer.item_tokens is None else list(answer.item_tokens)


def _is_worth_another_try(error: BaseException) -> bool:
    if not isinstance(error, ProviderError):
        return False
    return verdict(error, inputs=1) in {Verdict.TRY_AGAIN, Verdict.SWITCH_KEY}


def _is_the_keys_fault(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, ProviderError) and verdict(error, inputs=1) is Verdict.SWITCH_KEY


def _pause_s(state: RetryCallState) -> float:
    if _is_the_keys_fault(state):
        return 0.0  # the permit does the waiting, for whichever key is usable first
    longest = min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(state.attempt_number - 1, 10)))
    return longest * (0.5 + random() / 2)


def _is_enough(deadline_at: float) -> Callable[[RetryCallState], bool]:
    failures = 0

    def is_enough(state: RetryCallState) -> bool:
        nonlocal failures
        failures += not _is_the_keys_fault(state)
        resumes_at = asyncio.get_running_loop().time() + state.upcoming_sleep
        return failures >= MAX_TRIES or resumes_at >= deadline_at

    return is_enough
