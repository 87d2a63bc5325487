"""What an answer or a failure means for the key it was made with, here and for all workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from embedpool_shared.errors import (
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
)
from embedpool_shared.provider_keys import RestReason
from embedpool_worker.called import TIMEOUT
from embedpool_worker.key_policy import QUOTA_REST_S, RETIRED_FOR_S, SHORTEST_REST_S
from embedpool_worker.keyring import KeyHealth
from embedpool_worker.permits import Permit, Permits
from embedpool_worker.provider_limits import Said, said_limits
from embedpool_worker.providers.port import ProviderAnswer
from embedpool_worker.shared_keys import Report

log = logging.getLogger(__name__)


class KeyCare:
    """Moves the keys of `permits` from state to state; a caller's own key is left alone."""

    def __init__(self, permits: Permits) -> None:
        """Rest keys as the permits' policy says."""
        self._permits = permits

    def answered(
        self, permit: Permit, answer: ProviderAnswer, exact: Sequence[int] | None, took_s: float
    ) -> None:
        """Believe in the key again, count what the call truly took, obey the provider's limits."""
        health = permit.health
        if permit.share and permit.max_tokens is not None:
            total = answer.total_tokens
            if total is None and exact is not None:
                total = sum(exact)
            if total is not None:
                permit.settle(total)
        was_on_trial = health.worked(took_s)
        if health.is_foreign:
            return
        if was_on_trial:
            log.info("key_restored key=%s", health.id)
            self._report(health, Report("well"))
        said = self._quote(health, answer.headers)
        if said and said.rest_s and not health.headroom:
            # The reset is of the whole limit; the first call of it has room much sooner.
            now = asyncio.get_running_loop().time()
            until_at = now + min(said.rest_s, self._permits.policy.cooldown_s)
            self._cool(health, until_at, RestReason.USED_UP)

    def failed(self, permit: Permit, error: ProviderError) -> None:
        """Let the key rest as long as the failure asks for."""
        health = permit.health
        if health.is_foreign:
            return
        now = asyncio.get_running_loop().time()
        self._quote(health, error.headers)
        match error:
            case KeyRejected():
                self._retire(health, now)
            case QuotaExhausted():
                self._cool(health, now + QUOTA_REST_S, RestReason.QUOTA)
            case ProviderThrottled():
                self._throttle(health, error, now)
            case ProviderUnavailable():
                self._doubt(health, error, now)
            case _:
                return  # it answered; what was wrong concerns the batch
        self._permits.refuse_unserved()

    def _retire(self, health: KeyHealth, now: float) -> None:
        log.error("key_retired key=%s: the provider rejected it", health.id)
        health.retire()
        self._report(health, Report("retired", RestReason.REJECTED, now + RETIRED_FOR_S))

    def _cool(
        self, health: KeyHealth, until_at: float, reason: RestReason, *, halves: bool = False
    ) -> None:
        now = asyncio.get_running_loop().time()
        log.warning("key_cooling key=%s reason=%s for_s=%.1f", health.id, reason, until_at - now)
        health.cool(until_at)
        self._report(health, Report("cooling", reason, until_at, halves_slots=halves))

    def _throttle(self, health: KeyHealth, error: ProviderError, now: float) -> None:
        rest_s = error.retry_after_s or self._permits.policy.cooldown_s
        until_at = now + max(SHORTEST_REST_S, rest_s)
        self._cool(health, until_at, RestReason.THROTTLED, halves=True)

    def _doubt(self, health: KeyHealth, error: ProviderError, now: float) -> None:
        back_at = None
        if error.retry_after_s:
            back_at = now + max(SHORTEST_REST_S, error.retry_after_s)
        opened = health.failed(now, back_at=back_at)
        is_slow = error.code == TIMEOUT
        if back_at is not None:
            self._cool(health, back_at, RestReason.THROTTLED, halves=is_slow)
        elif opened:
            until_at = health.breaker.open_until_at
            self._cool(health, until_at, RestReason.FAILING, halves=is_slow)
        elif is_slow:
            self._report(health, Report("halve", halves_slots=True))

    def _quote(self, health: KeyHealth, headers: Mapping[str, str]) -> Said | None:
        said = said_limits(headers) if headers else None
        if said and health.headroom and self._permits.shared:
            if said.rest_s:
                health.headroom.hand_back_all()
            self._permits.shared.quote(health, said)
        return said

    def _report(self, health: KeyHealth, report: Report) -> None:
        if self._permits.shared:
            self._permits.shared.report(health, report)
