"""Makes one provider call for a batch: a permit for each try, the key's health minded after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from embedpool_shared import tokens
from embedpool_shared.errors import (
    CallTooLarge,
    DeadlineExceeded,
    EmbedPoolError,
    ProviderError,
    ProviderUnavailable,
)
from embedpool_shared.jobs import Input, LaneClass, MergeKey
from embedpool_worker.called import OWN_KEY, TIMEOUT, Called
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Deployment
from embedpool_worker.headroom import Need
from embedpool_worker.held import Item, estimated_tokens, input_size_bytes
from embedpool_worker.key_care import KeyCare
from embedpool_worker.keyring import KeyHealth, candidates
from embedpool_worker.own_keys import said_of_own_key
from embedpool_worker.permits import Permit, Permits
from embedpool_worker.providers.port import Provider, ProviderAnswer, ProviderCall
from embedpool_worker.retries import retrying
from embedpool_worker.vector_lengths import VectorLengths
from embedpool_worker.witness import LaneWitness, unwatched

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3


@dataclass(slots=True, eq=False)
class Batch:
    """The items of one call, and where it may be made."""

    items: list[Item]
    merge: MergeKey
    lane_class: LaneClass
    deployments: Sequence[Deployment]
    asked: str = ""  # the provider of the last try
    failed_with: set[KeyHealth] = field(default_factory=set)  # another one is tried first
    asked_deployment: Deployment | None = None  # … and its deployment
    failure: ProviderError | None = None  # … and what came of it, unless it was answered

    @property
    def deadline_at(self) -> float:
        """When the last of its callers stops listening."""
        return max(item.job.deadline_at for item in self.items)


@dataclass(frozen=True, slots=True)
class Made:
    """One answered call."""

    deployment: Deployment
    answer: ProviderAnswer
    tries: int
    began_at: float
    took_s: float
    exact: list[int] | None  # tokens of each input, where we can count them
    called: Called


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

    async def make(self, batch: Batch, inputs: list[Input], permit: Permit | None) -> Made:
        """Call until answered, with `permit` first; raises what ended it, or `NoKeys`."""
        self.permits.retry_budget.first_try()
        try:
            return await self._with_permit(batch, inputs, permit, tries=1)
        except ProviderError as error:
            return await self._again(batch, inputs, error)

    async def _again(self, batch: Batch, inputs: list[Input], first: ProviderError) -> Made:
        """Go on after a first failure; tenacity, which costs as much as a call, hears of it now."""
        tries = 0

        async def one_try() -> Made:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise first
            return await self._with_permit(batch, inputs, None, tries=tries)

        policy = retrying(
            max_tries=self._max_tries,
            deadline_at=batch.deadline_at,
            budget=self.permits.retry_budget,
            has_another_key=lambda: self._has_another_key(batch),
            on_refused=lambda: self.witness.metrics.retry_refused(batch.asked),
        )
        return await policy(one_try)

    def _has_another_key(self, batch: Batch) -> bool:
        """Tell whether a usable key is left that has not failed for this batch."""
        now = asyncio.get_running_loop().time()
        keys = candidates(
            self.permits.keys_of(batch.deployments), batch.failed_with, batch.lane_class, now=now
        )
        return any(key not in batch.failed_with for key in keys)

    async def _with_permit(
        self, batch: Batch, inputs: list[Input], permit: Permit | None, *, tries: int
    ) -> Made:
        """Make one try; a permit that became void since it was granted is replaced."""
        if permit is not None and not permit.is_good(asyncio.get_running_loop().time()):
            self.permits.give_back(permit)
            permit = None
        is_formed_for_it = permit is not None
        if permit is None:
            tokens = _estimated_tokens(inputs)
            permit = await self.permits.acquire(
                batch.deployments,
                batch.lane_class,
                until_at=batch.deadline_at,
                need=lambda: Need(tokens, tokens, len(inputs)),
                avoided=batch.failed_with,
            )
        try:
            if not is_formed_for_it:
                self._refuse_larger(batch, inputs, permit.health.deployment)
            return await self._one_try(batch, inputs, permit, tries)
        finally:
            self.permits.give_back(permit)

    def _refuse_larger(self, batch: Batch, inputs: list[Input], deployment: Deployment) -> None:
        """Raise `CallTooLarge` where a call formed for another deployment does not fit this one."""
        if not _fits(inputs, self._caps_of(deployment)):
            batch.asked, batch.asked_deployment = deployment.provider, deployment
            raise CallTooLarge("the call was formed for a deployment that takes larger ones")

    async def _one_try(self, batch: Batch, inputs: list[Input], permit: Permit, tries: int) -> Made:
        loop = asyncio.get_running_loop()
        deployment = permit.health.deployment
        batch.asked = deployment.provider
        batch.asked_deployment = deployment
        began_at = loop.time()
        timeout_s = _time_for(batch, deployment, now=began_at)
        call = _call(batch.merge, inputs, permit, timeout_s=timeout_s)
        if permit.max_tokens is not None:
            permit.settle(_estimated_tokens(inputs))
        permit.begin()
        counting = self._start_counting(deployment, inputs)
        called = self._called(batch, inputs, permit, tries, now=began_at)
        try:
            answer = await self._answer(deployment, call)
            self._refuse_other_length(batch, deployment, answer.dims)
            called.took_s = took_s = loop.time() - began_at
            called.tokens = answer.total_tokens or 0
            exact = await counting if counting else _exact(inputs, answer)
            called.is_answered = True
        except ProviderError as error:
            in_a_hurry = error.code == TIMEOUT and timeout_s < permit.health.telling_s
            raise self._failed(batch, permit, called, error, is_telling=not in_a_hurry) from None
        finally:
            if counting:
                counting.cancel()
            if not called.is_answered:
                self._tell(called)
        self._care.answered(permit, answer, exact, took_s)
        return Made(deployment, answer, tries, began_at, took_s, exact, called)

    def tell_soon(self, made: Made) -> None:
        """Tell the witness of an answered call, after those who have waited for it are answered."""
        asyncio.get_running_loop().call_soon(self._tell, made.called)

    def _tell(self, called: Called) -> None:
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

    def _called(
        self, batch: Batch, inputs: list[Input], permit: Permit, tries: int, *, now: float
    ) -> Called:
        """Tell the witness that a try begins."""
        health = permit.health
        if batch.failure is not None:
            is_failover = health not in batch.failed_with
            self.witness.tried_again(batch.failure, batch.asked, is_failover=is_failover)
        called = Called(
            items=batch.items,
            inputs=len(inputs),
            lane_class=batch.lane_class,
            deployment=health.deployment,
            key_id=OWN_KEY if health.is_foreign else health.id,
            tries=tries,
            began_at=now,
        )
        self.witness.call_began(called)
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


def _estimated_tokens(inputs: Sequence[Input]) -> int:
    return sum(estimated_tokens(given, input_size_bytes(given)) for given in inputs)


def _fits(inputs: Sequence[Input], caps: Caps) -> bool:
    """Tell whether so much may travel in one call; a single input always may."""
    if len(inputs) == 1:
        return True
    sizes = [input_size_bytes(given) for given in inputs]
    tokens = [estimated_tokens(given, size) for given, size in zip(inputs, sizes, strict=True)]
    return (
        len(inputs) <= caps.max_items
        and max(tokens) <= caps.max_item_tokens
        and (caps.max_call_tokens is None or sum(tokens) <= caps.max_call_tokens)
        and (caps.max_call_bytes is None or sum(sizes) <= caps.max_call_bytes)
    )


def _call(
    merge: MergeKey, inputs: Sequence[Input], permit: Permit, *, timeout_s: float
) -> ProviderCall:
    deployment, key = permit.health.deployment, permit.health.key
    return ProviderCall(
        model=deployment.upstream_of(merge.model),
        inputs=inputs,
        dimensions=_forwarded_dimensions(merge, deployment),
        params=msgspec.json.decode(merge.params) if merge.params else {},
        secret=key.secret if key else None,
        timeout_s=timeout_s,
    )


def _forwarded_dimensions(merge: MergeKey, deployment: Deployment) -> int | None:
    """The size to ask the provider for; the model's own size is never asked for."""
    wanted = merge.dimensions or deployment.default_dimensions
    if not deployment.forwards_dimensions or wanted == deployment.native_dimensions:
        return None
    return wanted


def _exact(inputs: Sequence[Input], answer: ProviderAnswer) -> list[int] | None:
    """Token arrays count their ids; for texts the adapter may have counted."""
    if not isinstance(inputs[0], str):
        return [len(ids) for ids in inputs]
    return None if answer.item_tokens is None else list(answer.item_tokens)
