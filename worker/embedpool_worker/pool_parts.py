"""What a pool is made of, and what it has to know of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedpool_shared.config.settings import Config
from embedpool_shared.jobs import LaneClass, MergeKey
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.sealing import Secrets
from embedpool_worker.calls import MAX_TRIES
from embedpool_worker.deployments import Deployment
from embedpool_worker.key_policy import KeyPolicy
from embedpool_worker.learned_caps import LearnedCaps
from embedpool_worker.providers.port import Provider
from embedpool_worker.recall import Recall
from embedpool_worker.storing import Storing
from embedpool_worker.witness import Witness


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What a pool needs to know of the configuration."""

    worker_id: str
    lease_s: float
    linger_s: dict[LaneClass, float]
    max_leased_items: int
    slots_per_key: int
    key_policy: KeyPolicy = field(default_factory=KeyPolicy)
    max_tries: int = MAX_TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolParts:
    """What a pool is made of; the composition root chooses."""

    names: Names
    line: Callable[[str], Line]  # by role, one each
    deployments_of: Callable[[str, MergeKey], Sequence[Deployment]]
    adapter_of: Callable[[Deployment], Provider]
    count_in: Callable[..., Any]
    learned: LearnedCaps = field(default_factory=LearnedCaps)
    recall: Recall | None = None  # with `storing`: the vector cache, where there is one
    storing: Storing | None = None
    secrets: Secrets | None = None  # what callers' own keys are sealed with
    witness: Witness = field(default_factory=Witness)


def pool_settings(config: Config, *, worker_id: str) -> PoolSettings:
    """Read the configuration for a pool."""
    return PoolSettings(
        worker_id=worker_id,
        lease_s=config.pool.lease_s,
        linger_s={
            LaneClass.INTERACTIVE: config.pool.linger_ms / 1_000,
            LaneClass.BULK: config.pool.bulk_linger_ms / 1_000,
        },
        max_leased_items=config.pool.max_leased_items,
        slots_per_key=config.pool.slots_per_key,
        key_policy=KeyPolicy(
            cooldown_s=config.router_settings.cooldown_time,
            allowed_fails=config.router_settings.allowed_fails,
        ),
        max_tries=1 + config.max_retries,
    )
