"""The health of provider keys, and which one is next. Pure.

States of a key: *ready* (it has a free slot, and room in its limits) · *busy* (all its slots are
taken) · *full* (its limits have no room until an instant) · *cooling* until an instant (a 429, an
empty account) · *open* until an instant (it kept failing: `breaker`) · *retired* (the provider
rejected it) · *on trial* (retired long enough: one call at a time finds out).
Moved by `take`, `give_back`, `cool`, `retire`, `put_on_trial`, `worked` and `failed`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from embedpool_shared.jobs import LaneClass
from embedpool_worker.breaker import Breaker
from embedpool_worker.deployments import Deployment, ProviderKey
from embedpool_worker.headroom import Headroom, Need, Share

RESERVE_SHARE = 4
"""Bulk leaves one slot in so many to interactive calls."""
LATENCY_MEMORY = 0.8
"""How much of the remembered latency outlives one more call."""
TELLING_TIMES = 4
"""A key that is silent for so many times its latency has something wrong with it."""
LEAST_TELLING_S = 1.0
TELLING_UNKNOWN_S = 5.0
"""The same for a key that has not answered yet."""
ANY_NEED = Need()


@dataclass(slots=True, eq=False)
class KeyHealth:
    """One way to call a deployment: a key, or none where the provider wants none."""

    deployment: Deployment
    key: ProviderKey | None
    slots: int
    headroom: Headroom | None = None  # None: no limits
    breaker: Breaker = field(default_factory=Breaker)
    is_foreign: bool = False  # a caller's own key: what becomes of it is the caller's affair
    in_flight: int = 0
    in_flight_bulk: int = 0
    cooling_until_at: float = 0.0
    is_retired: bool = False
    is_on_trial: bool = False
    latency_s: float = 0.0  # lately, 0.0 before the first answer
    contact_due_at: float = 0.0  # when to compare notes with the other workers

    @property
    def id(self) -> str:
        """The key's name, the deployment's where there is no key."""
        return self.key.id if self.key else self.deployment.id

    @property
    def telling_s(self) -> float:
        """How long its silence must last to say anything of it; less is its callers' hurry."""
        usual_s = TELLING_TIMES * self.latency_s if self.latency_s else TELLING_UNKNOWN_S
        return min(self.deployment.timeout_s, max(LEAST_TELLING_S, usual_s))

    def is_usable(self, now: float) -> bool:
        """Tell whether the key may be called at all."""
        return not (
            self.is_retired or self.cooling_until_at > now or self.breaker.open_until_at > now
        )

    def rested_at(self) -> float:
        """Say when the key may be called again, unless it is retired."""
        return max(self.cooling_until_at, self.breaker.open_until_at)

    def has_room(self, lane_class: LaneClass) -> bool:
        """Tell whether a slot is free for this class; bulk never takes the reserved ones."""
        slots = 1 if self.is_on_trial or self.breaker.has_tripped else self.slots
        if self.in_flight >= slots:
            return False
        if lane_class is LaneClass.INTERACTIVE:
            return True
        return self.in_flight_bulk < max(1, slots - max(1, slots // RESERVE_SHARE))

    def covers(self, need: Need, *, now: float) -> bool:
        """Tell whether the limits have room, as far as this process was told."""
        return self.headroom is None or self.headroom.covers(self.bounded(need), now=now)

    def bounded(self, need: Need) -> Need:
        """What a call to this deployment would use of that."""
        caps = self.deployment.caps
        return need.within(max_items=caps.max_items, max_tokens=caps.max_call_tokens)

    def take(self, lane_class: LaneClass) -> None:
        """Occupy a slot."""
        self.in_flight += 1
        self.in_flight_bulk += lane_class is LaneClass.BULK

    def take_share(self, need: Need, *, now: float) -> Share | None:
        """Use the limits for one call; None where there are none."""
        return self.headroom.take(self.bounded(need), now=now) if self.headroom else None

    def give_back(self, lane_class: LaneClass) -> None:
        """Free a slot."""
        self.in_flight -= 1
        self.in_flight_bulk -= lane_class is LaneClass.BULK

    def cool(self, until_at: float) -> None:
        """Rest until then; a longer rest already begun stays."""
        self.cooling_until_at = max(self.cooling_until_at, until_at)

    def retire(self) -> None:
        """Rest until somebody finds it works again."""
        self.is_retired, self.is_on_trial = True, False

    def put_on_trial(self) -> None:
        """Let one call at a time find out whether the provider accepts the key again."""
        self.is_retired, self.is_on_trial = False, True

    def failed(self, now: float, *, back_at: float | None = None) -> bool:
        """Count a failure that may be the key's or the deployment's; True if it rests now."""
        return self.breaker.failed(now, back_at=back_at)

    def worked(self, took_s: float) -> bool:
        """Count an answer; True if that ended a trial."""
        was_on_trial, self.is_on_trial = self.is_on_trial, False
        self.breaker.succeeded()
        lately = self.latency_s or took_s
        self.latency_s = LATENCY_MEMORY * lately + (1 - LATENCY_MEMORY) * took_s
        return was_on_trial

    def load(self) -> tuple[float, float]:
        """How long a call may take here; where nobody knows, how few slots are free."""
        share = (self.in_flight + 1) / self.slots
        return share * self.latency_s, self.in_flight - self.slots


def candidates(
    keys: Sequence[KeyHealth],
    avoided: Collection[KeyHealth],
    lane_class: LaneClass,
    *,
    now: float,
) -> list[KeyHealth]:
    """The usable keys; without those that failed lately, or for this batch, while there are others.

    Another one counts even while it is busy, but not while its limits are full.
    """
    if len(keys) == 1:
        return list(keys) if keys[0].is_usable(now) else []
    usable = [key for key in keys if key.is_usable(now)]
    fresh = [key for key in usable if key not in avoided]
    trusted = [key for key in fresh if not key.breaker.is_doubted(now)]
    for preferred in (trusted, fresh):
        if any(not is_full(key, lane_class, now=now) for key in preferred):
            return preferred
    return usable


def is_full(key: KeyHealth, lane_class: LaneClass, *, now: float) -> bool:
    """Tell whether the key's limits are known to have no room for this class."""
    return key.headroom is not None and key.headroom.full_until_at(lane_class) > now


def choose(
    keys: Iterable[KeyHealth], lane_class: LaneClass, *, now: float, need: Need | None = None
) -> KeyHealth | None:
    """Pick the key that will answer first of those with a slot and room; None if there is none."""
    wanted = need or ANY_NEED
    ready = [
        key
        for key in keys
        if key.is_usable(now)
        and key.has_room(lane_class)
        and (key.headroom is None or key.covers(wanted, now=now))
    ]
    return ready[0] if len(ready) == 1 else min(ready, key=KeyHealth.load, default=None)


def to_ask(keys: Iterable[KeyHealth], lane_class: LaneClass, *, now: float) -> KeyHealth | None:
    """Pick the key whose limits to ask for room, None if that would be in vain now."""
    ready = [
        key
        for key in keys
        if key.headroom and key.is_usable(now) and key.has_room(lane_class)
        and key.headroom.ask_again_at(lane_class) <= now
    ]  # fmt: skip
    return min(ready, key=KeyHealth.load, default=None)


def rested_at(keys: Iterable[KeyHealth], *, now: float) -> float | None:
    """Say when the first key has rested (`now` if one is only busy or full), None if never."""
    return min((max(now, key.rested_at()) for key in keys if not key.is_retired), default=None)


def ready_at(keys: Iterable[KeyHealth], lane_class: LaneClass, *, now: float) -> float | None:
    """Say when the first key has rested and has room (`now` if it is only busy), None if never."""
    living = (key for key in keys if not key.is_retired)
    return min((key_ready_at(key, lane_class, now=now) for key in living), default=None)


def key_ready_at(key: KeyHealth, lane_class: LaneClass, *, now: float) -> float:
    """Say when a key that is not retired has rested and has room, as far as is known."""
    full_until_at = key.headroom.full_until_at(lane_class) if key.headroom else 0.0
    return max(now, key.rested_at(), full_until_at)
