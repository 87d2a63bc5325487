"""The health of provider keys, and which one is next. Pure.

States of a key: *ready* (it has a free slot) · *busy* (all its slots are taken) · *cooling* until
an instant (a 429, an empty account) · *retired* (the provider rejected it; only a restart helps).
Moved by `take`, `give_back`, `cool` and `retire`, called from `permits`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from embedpool_shared.jobs import LaneClass
from embedpool_worker.deployments import Deployment, ProviderKey

RESERVE_SHARE = 4
"""Bulk leaves one slot in so many to interactive calls."""


@dataclass(slots=True, eq=False)
class KeyHealth:
    """One way to call a deployment: a key, or none where the provider wants none."""

    deployment: Deployment
    key: ProviderKey | None
    slots: int
    in_flight: int = 0
    in_flight_bulk: int = 0
    cooling_until_at: float = 0.0
    is_retired: bool = False

    def is_usable(self, now: float) -> bool:
        """Tell whether the key may be called at all."""
        return not self.is_retired and self.cooling_until_at <= now

    def has_room(self, lane_class: LaneClass) -> bool:
        """Tell whether a slot is free for this class; bulk never takes the reserved ones."""
        if self.in_flight >= self.slots:
            return False
        if lane_class is LaneClass.INTERACTIVE:
            return True
        return self.in_flight_bulk < max(1, self.slots - max(1, self.slots // RESERVE_SHARE))

    def take(self, lane_class: LaneClass) -> None:
        """Occupy a slot."""
        self.in_flight += 1
        self.in_flight_bulk += lane_class is LaneClass.BULK

    def give_back(self, lane_class: LaneClass) -> None:
        """Free a slot."""
        self.in_flight -= 1
        self.in_flight_bulk -= lane_class is LaneClass.BULK

    def cool(self, until_at: float) -> None:
        """Rest until then; a longer rest already begun stays."""
        self.cooling_until_at = max(self.cooling_until_at, until_at)

    def retire(self) -> None:
        """Rest for good."""
        self.is_retired = True


def choose(keys: Iterable[KeyHealth], lane_class: LaneClass, *, now: float) -> KeyHealth | None:
    """Pick the usable key with the most free slots, None if every one is busy or resting."""
    ready = [key for key in keys if key.is_usable(now) and key.has_room(lane_class)]
    return max(ready, key=lambda key: key.slots - key.in_flight, default=None)


def ready_at(keys: Iterable[KeyHealth], *, now: float) -> float | None:
    """Say when the first key may be called again (`now` if one is only busy), None if never."""
    return min((max(now, key.cooling_until_at) for key in keys if not key.is_retired), default=None)
