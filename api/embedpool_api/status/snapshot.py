"""The pool at one moment, as the status page shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedpool_api.status.endings_seen import (
    Filling,
    Logged,
    ended,
    faults,
    filling,
    rows_of,
    spending,
)
from embedpool_api.status.lanes_seen import LaneSeen, packs_by_worker
from embedpool_shared.catalog import Catalog
from embedpool_shared.presence import API, WORKER
from embedpool_shared.provider_keys import KeyState


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A living worker, and how many packs it has leased."""

    id: str
    packs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that was seen at one moment of Redis' clock."""

    at_ms: int
    alive: Sequence[str]
    lanes: Sequence[LaneSeen]
    keys: Sequence[KeyState]
    log: Sequence[Logged] = field(default=(), repr=False)

    def shown(self, catalog: Catalog | None) -> dict[str, Any]:
        """Show it, as JSON has it; `catalog` says what fits into a batch."""
        rows = rows_of(self.log)
        dead_letters = [dead for lane in self.lanes for dead in lane.newest_dead]
        return {
            "at_ms": self.at_ms,
            "models": len(catalog.models) + len(catalog.wildcards) if catalog else 0,
            "workers": self._workers(),
            "apis": sorted(_ids(self.alive, API)),
            "lanes": self._lanes(catalog),
            "keys": keys_shown(self.keys),
            "faults": faults(rows, dead_letters),
            "requests": ended(rows),
            "spending": spending(rows),
        }

    def _workers(self) -> list[WorkerSeen]:
        packs = packs_by_worker(self.lanes)
        ids = sorted(_ids(self.alive, WORKER))
        return [WorkerSeen(worker, packs[_consumer(worker)]) for worker in ids]

    def _lanes(self, catalog: Catalog | None) -> list[dict[str, Any]]:
        """The busiest first; those at rest by their names."""
        filled = filling(self.log)
        most = _most_items(catalog)
        return [
            _lane_shown(lane, filled.get(lane.name), most.get(lane.name))
            for lane in sorted(self.lanes, key=lambda it: (-it.items, -it.served_per_s, it.name))
        ]


def keys_shown(keys: Sequence[KeyState]) -> list[dict[str, Any]]:
    """Show what is known of provider keys; of a secret, what its `shown` part says."""
    return [
        {
            "id": key.id,
            "provider": key.provider or None,
            "deployment": key.deployment or None,
            "model": key.model or None,
            "key": key.shown or None,
            "condition": key.condition.value,
            "reason": key.reason or None,
            "rests_for_s": round(key.rests_for_s, 1),
            "rpm": key.rpm,
            "tpm": key.tpm,
            "remaining_requests": key.remaining_requests,
            "remaining_tokens": key.remaining_tokens,
            "slots": key.slots,
            "in_flight": key.in_flight,
            "workers": key.workers,
        }
        for key in keys
    ]


def _lane_shown(lane: LaneSeen, filled: Filling | None, most_items: int | None) -> dict[str, Any]:
    return {
        "name": lane.name,
        "items": lane.items,
        "bytes": lane.bytes,
        "tokens": lane.tokens,
        "packs": lane.packs,
        "packs_leased": lane.packs_leased,
        "oldest_s": round(lane.oldest_s, 3),
        "served_per_s": lane.served_per_s,
        "dead_letters": lane.dead_letters,
        "batches": filled.batches if filled else 0,
        "items_per_batch": round(filled.items, 1) if filled else None,
        "requests_per_batch": round(filled.requests, 1) if filled else None,
        "fill_ratio": min(1.0, filled.items / most_items) if filled and most_items else None,
    }


def _most_items(catalog: Catalog | None) -> Mapping[str, int]:
    if catalog is None:
        return {}
    cards = [*catalog.models.values(), *catalog.wildcards]
    return {card.name: card.max_items_per_call for card in cards if card.max_items_per_call}


def _consumer(worker: str) -> str:
    """Take off the host: to the lanes' streams a worker is known by its own name."""
    return worker.partition(":")[2] or worker


def _ids(alive: Sequence[str], kind: str) -> list[str]:
    return [name.removeprefix(kind) for name in alive if name.startswith(kind)]
