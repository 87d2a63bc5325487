"""Makes one provider call for a batch: a permit for each try, the key's health minded after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from embedpool_shared import tokens
from embedpool_shared.errors import (
    CallTooLarge,
    DeadlineExceeded,
    EmbedPoolError,
    ProviderError,
    ProviderUnavailable,
)
from embedpool_shared.jobs import Input
from embedpool_worker.batch import Batch
from embedpool_worker.called import OWN_KEY, TIMEOUT, Called
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Deployment
from embedpool_worker.headroom import Need
from embedpool_worker.key_care import KeyCare
from embedpool_worker.keyring import candidates
from embedpool_worker.own_keys import said_of_own_key
from embedpool_worker.permits import Permit, Permits
from embedpool_worker.providers.port import Provider, ProviderAnswer, ProviderCall
from embedpool_worker.providers.sending import call_of
from embedpool_worker.retries import retrying
from embedpool_worker.vector_lengths import VectorLengths
from embedpool_worker.witness import LaneWitness, unwatched

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3


class Calls:
    """Makes the calls of one lane."""

    def __init__(
        self,
        permits: Permits,
        adapter_of: Callable[[Deployment], Provider],
        *,
        count_in: Callable[..., Any],
        caps_of: Callable[[Deployment], Caps] = lambda deployment: deployment.caps,
        max_tries: int = MAX_TRIES,
        witness: LaneWitness | None = None,
    ) -> None:
        """`count_in(function, *arguments)` awaits a function run off the loop."""
        self.permits = permits
        self._care = KeyCare(permits)
        self._adapter_of = adapter_of
        self._count_in = count_in
        self._caps_of = caps_of
        self._lengths = VectorLengths()
        self._max_tries = max_tries
        self.witness = witness or unwatched()

    async def make(self, batch: Batch, permit: Permit | None) -> Called:
        """Call until answered, with `permit` first; raises what ended it, or `NoKeys`."""
        self.permits.retry_budget.first_try()
        try:
            return await self._try(batch, permit, tries=1)
        except ProviderError as error:
            return await self._again(batch, error)

    async def _again(self, batch: Batch, first: ProviderError) -> Called:
        """Go on after a first failure; tenacity, which costs as much as a call, hears of it now."""
        tries = 0

        async def one_try() -> Called:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise first
            return await self._try(batch, None, tries=tries)

        policy = retrying(
            max_tries=self._max_tries,
            deadline_at=batch.deadline_at,
            budget=self.permits.retry_budget,
            has_another_key=lambda: self._has_another_key(batch),
            on_refused=lambda: self.witness.metrics.retry_refused(batch.provider),
        )
        return await policy(one_try)

    def _has_another_key(self, batch: Batch) -> bool:
        """Tell whether a usable key is left that has not failed for this batch."""
        now = asyncio.get_running_loop().time()
        keys = candidates(
            self.permits.keys_of(batch.deployments), batch.failed_with, batch.lane_class, now=now
        )
        return any(key not in batch.failed_with for key in keys)

    async def _try(self, batch: Batch, permit: Permit | None, *, tries: int) -> Called:
        """Make one try; a permit that became void since it was granted is replaced."""
        if permit is None or not permit.is_good(asyncio.get_running_loop().time()):
            permit = await self._another_permit(batch, permit)
        try:
            return await self._ask(batch, permit, tries)
        finally:
            self.permits.give_back(permit)

    async def _another_permit(self, batch: Batch, void: Permit | None) -> Permit:
        """Wait for a permit; raises `CallTooLarge` where a batch does not fit what it is for."""
        if void is not None:
            self.permits.give_back(void)
        need = Need(batch.tokens, batch.tokens, len(batch.inputs))
        permit = await self.permits.acquire(
            batch.deployments,
            batch.lane_class,
            until_at=batch.deadline_at,
            need=lambda: need,
            avoided=batch.failed_with,
        )
        deployment = permit.health.deployment
        if not batch.fits(self._caps_of(deployment)):
            self.permits.give_back(permit)
            batch.asked = deployment
            raise CallTooLarge("the call was formed for a deployment that takes larger ones")
        return permit

    async def _ask(self, batch: Batch, permit: Permit, tries: int) -> Called:
        loop = asyncio.get_running_loop()
        now = loop.time()
        deployment, key = permit.health.deployment, permit.health.key
        call = call_of(
            deployment,
            batch.merge,
            batch.inputs,
            secret=key.secret if key else None,
            timeout_s=_time_for(batch, deployment, now=now),
        )
        if permit.share:
            permit.begin(batch.tokens)
        counting = self._start_counting(deployment, batch.inputs)
        called = self._begun(batch, permit, tries, now=now)
        try:
            answer = await self._answer(deployment, call)
            if len(batch.deployments) > 1:
                self._refuse_other_length(batch, deployment, answer.dims)
            called.took_s = loop.time() - now
            called.tokens = answer.total_tokens or 0
            called.exact = await counting if counting else _exact(batch.inputs, answer)
            called.answer, called.is_answered = answer, True
        except ProviderError as error:
            in_a_hurry = error.code == TIMEOUT and call.timeout_s < permit.health.telling_s
            raise self._failed(batch, permit, called, error, is_telling=not in_a_hurry) from None
        finally:
            if counting:
                counting.cancel()
            if not called.is_answered:
                loop.call_soon(self.tell, called)  # it hears of beginnings that late, too
        self._care.answered(permit, answer, called.exact, called.took_s)
        return called

    def tell(self, called: Called) -> None:
        """Tell the witness of a call that is over."""
        now = asyncio.get_running_loop().time()
        self.witness.call_ended(called, self._caps_of(called.deployment), now=now)

    async def _answer(self, deployment: Deployment, call: ProviderCall) -> ProviderAnswer:
        """Await the provider's answer for as long as the call may take."""
        try:
            async with asyncio.timeout(call.timeout_s):
                return await self._adapter_of(deployment).embed(call)
        except TimeoutError:
            silence = f"no answer within {call.timeout_s:g} s"
            raise ProviderUnavailable(silence, code=TIMEOUT) from None

    def _begun(self, batch: Batch, permit: Permit, tries: int, *, now: float) -> Called:
        """Note that a try begins, and tell the witness once it has begun."""
        health = permit.health
        batch.asked = health.deployment
        if batch.failure is not None:
            is_failover = health not in batch.failed_with
            self.witness.tried_again(batch.failure, batch.provider, is_failover=is_failover)
        called = Called(
            items=batch.items,
            inputs=len(batch.inputs),
            lane_class=batch.lane_class,
            deployment=health.deployment,
            key_id=OWN_KEY if health.is_foreign else health.id,
            tries=tries,
            began_at=now,
        )
        asyncio.get_running_loop().call_soon(self.witness.call_began, called)
        return called

    def _failed(
        self,
        batch: Batch,
        permit: Permit,
        called: Called,
        error: ProviderError,
        *,
        is_telling: bool,
    ) -> EmbedPoolError:
        """Mind what a failed try says of its key; return what it is to whoever made the call."""
        batch.failure = called.error = error
        batch.failed_with.add(permit.health)
        if is_telling:
            self._care.failed(permit, error)
        if not called.deployment.is_callers_own:
            return error
        return said_of_own_key(error, called.deployment.provider) or error

    def _refuse_other_length(self, batch: Batch, deployment: Deployment, dims: int) -> None:
        """Raise `ProviderUnavailable`: whatever it serves, it is not what this group serves."""
        expected = self._lengths.expected(batch.merge, batch.deployments, dims)
        if dims != expected:
            log.error("other_length deployment=%s dims=%d group=%d", deployment.id, dims, expected)
            raise ProviderUnavailable(
                f"it answered {dims} dimensions where its group has {expected}", code="dimensions"
            )

    def _start_counting(self, deployment: Deployment, inputs: list[Input]) -> Any:
        """Count while the call is in flight, off the loop; None where we cannot count exactly."""
        if not deployment.encoding or not isinstance(inputs[0], str):
            return None
        return asyncio.ensure_future(self._count_in(tokens.count_all, deployment.encoding, inputs))


def _time_for(batch: Batch, deployment: Deployment, *, now: float) -> float:
    """How long a call may take; raises `DeadlineExceeded` where nobody would hear its answer."""
    timeout_s = min(deployment.timeout_s, batch.deadline_at - now)
    if timeout_s <= 0:
        raise DeadlineExceeded(
            "The request's deadline passed before a provider call could be made", code="timeout"
        )
    return timeout_s


def _exact(inputs: Sequence[Input], answer: ProviderAnswer) -> list[int] | None:
    """Token arrays count their ids; for texts the adapter may have counted."""
    if not isinstance(inputs[0], str):
        return [len(ids) for ids in inputs]
    return None if answer.item_tokens is None else list(answer.item_tokens)
