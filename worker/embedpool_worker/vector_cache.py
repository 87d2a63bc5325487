"""The vector cache of this process, where the configuration wants one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_urlsafe

from embedpool_shared.config.settings import Config
from embedpool_shared.names import Names
from embedpool_shared.redis import Line
from embedpool_shared.sealing import Secrets
from embedpool_worker.cached_vectors import Spaces
from embedpool_worker.recall import Recall
from embedpool_worker.storing import CacheBounds, Storing


@dataclass(frozen=True, slots=True)
class VectorCache:
    """Both ends of it: what is known is not sent, what was answered is kept."""

    recall: Recall
    storing: Storing


def vector_cache(
    config: Config, line: Callable[[str], Line], names: Names, secrets: Secrets | None
) -> VectorCache | None:
    """Build both ends; None where vectors are not kept."""
    if config.cache_ttl_s <= 0:
        return None
    # Without a secret nobody else has the names either: a cache of this process' own.
    digest = (secrets or Secrets(token_urlsafe(32))).cache_digest
    spaces = Spaces()
    bounds = CacheBounds(config.cache_ttl_s, config.cache.max_bytes)
    return VectorCache(
        Recall(line("cache"), names, digest, spaces),
        Storing(line("cache-write"), names, digest, spaces, bounds),
    )
