"""When waiting for a key is in vain, and what whoever waits is told then. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from embedpool_shared.errors import DeadlineExceeded, Overloaded, PoolError
from embedpool_shared.jobs import LaneClass
from embedpool_worker.keyring import KeyHealth, ready_at, rested_at
from embedpool_worker.verdicts import no_keys


def changes_at(key: KeyHealth, lane_class: LaneClass) -> tuple[float, ...]:
    """List the instants at which the key becomes usable, or as good as any other."""
    if key.is_retired:
        return ()
    ask_again_at = key.headroom.ask_again_at(lane_class) if key.headroom else 0.0
    return key.rested_at(), key.breaker.doubted_until_at, ask_again_at


def in_vain(
    keys: Sequence[KeyHealth], lane_class: LaneClass, *, until_at: float, now: float
) -> PoolError | None:
    """The refusal, if none of these keys can be called in time; a busy one always might be."""
    first_ready_at = ready_at(keys, lane_class, now=now)
    if first_ready_at is not None and first_ready_at <= max(until_at, now):
        return None
    provider = keys[0].deployment.provider
    first_rested_at = rested_at(keys, now=now)
    if first_ready_at is not None and first_rested_at == now:
        return _overloaded(provider, wait_s=first_ready_at - now)
    return no_keys(provider, retry_after_s=None if first_ready_at is None else first_ready_at - now)


def _overloaded(provider: str, *, wait_s: float) -> Overloaded:
    return Overloaded(
        f"[{provider}] Every key is at its limit; the next call can be made in {wait_s:.1f} s",
        code="overloaded",
        retry_after_s=wait_s,
    )


def too_late() -> DeadlineExceeded:
    """Say that a wait for limits took longer than foreseen."""
    return DeadlineExceeded("No provider key had room within the request's time", code="timeout")
