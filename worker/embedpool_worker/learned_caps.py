"""What providers' refusals taught about their caps, and for how long that is believed. Pure.

A number the provider named holds for a day. A guess, made from what was refused and what was not,
doubles with every hour, so that one odd refusal cripples no deployment for ever. What was learned
only ever lowers the configured caps: an operator's larger number is bounded by what the provider
said, since it is the provider who refuses the call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Deployment
from embedpool_worker.providers.cap_words import CapKind
from embedpool_worker.providers.limits import HEADROOM

KEPT_FOR_S: Final = 24 * 3_600.0
GUESS_DOUBLES_AFTER_S: Final = 3_600.0
_MOST: Final = 1 << 40
"""A number beyond it is no cap."""
_NAMED: Final = "named"
_GUESSED: Final = "guessed"


@dataclass(frozen=True, slots=True)
class CapName:
    """Which cap of which deployment, and how it is known."""

    deployment: str  # its id
    kind: CapKind
    is_named: bool  # by the provider; else it is our guess

    @override
    def __str__(self) -> str:
        """Write it as a field of the hash that workers share."""
        how = _NAMED if self.is_named else _GUESSED
        return f"{how}:{self.kind.value}:{self.deployment}"


def cap_name(written: str) -> CapName:
    """Read the name of a cap; raises ValueError where it is none of this version's."""
    how, kind, deployment = written.split(":", 2)
    if how not in {_NAMED, _GUESSED}:
        raise ValueError(f"{how!r} is not how a cap is known")
    return CapName(deployment, CapKind(kind), how == _NAMED)


@dataclass(frozen=True, slots=True)
class Learned:
    """A number as it was learned, and when on the loop's clock."""

    number: int
    at: float

    def number_at(self, now: float, *, is_named: bool) -> int | None:
        """Say what is believed by now; None when it is forgotten."""
        age_s = now - self.at
        if age_s >= KEPT_FOR_S:
            return None
        doublings = 0 if is_named else int(max(0.0, age_s) // GUESS_DOUBLES_AFTER_S)
        return min(_MOST, self.number << doublings)


class LearnedCaps:
    """What this worker knows of its deployments' true caps."""

    def __init__(self) -> None:
        """Know nothing."""
        self.on_learned: Callable[[], None] = lambda: None
        self.unshared: dict[CapName, Learned] = {}
        self._known: dict[CapName, Learned] = {}
        self._of: dict[str, list[CapName]] = {}

    def learn(self, name: CapName, number: int, *, now: float) -> bool:
        """Believe a number from now on; False where it says nothing new."""
        before = self._known.get(name)
        believed = before.number_at(now, is_named=name.is_named) if before else None
        if believed is not None and (number == believed if name.is_named else number >= believed):
            return False
        self._know(name, Learned(max(1, number), now))
        self.unshared[name] = self._known[name]
        self.on_learned()
        return True

    def know_only(self, shared: Mapping[CapName, Learned]) -> None:
        """Believe what all workers together know, and what of ours they have not heard yet."""
        self._known, self._of = {}, {}
        for name, learned in {**shared, **self.unshared}.items():
            self._know(name, learned)

    def knows(self, deployment: Deployment) -> bool:
        """Tell whether anything was learned of a deployment; mostly there is nothing."""
        return deployment.id in self._of

    def caps_of(self, deployment: Deployment, *, now: float) -> Caps:
        """Bound a deployment's configured caps by what was learned."""
        names = self._of.get(deployment.id)
        if names is None:
            return deployment.caps
        believed = [(name, self._known[name].number_at(now, is_named=name.is_named))
                    for name in names]  # fmt: skip
        return _bounded(deployment, [(name, n) for name, n in believed if n is not None])

    def numbers_of(self, deployment: Deployment) -> dict[CapKind, int]:
        """Say what was learned of a deployment, as all workers remember it."""
        numbers: dict[CapKind, int] = {}
        for name in self._of.get(deployment.id, ()):
            known = self._known[name].number
            numbers[name.kind] = min(known, numbers.get(name.kind, known))
        return numbers

    @property
    def version(self) -> str:
        """Name this state of knowledge: the same on every worker that knows the same."""
        lines = sorted(f"{name}={learned.number}" for name, learned in self._known.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]

    def _know(self, name: CapName, learned: Learned) -> None:
        self._known[name] = learned
        names = self._of.setdefault(name.deployment, [])
        if name not in names:
            names.append(name)


def _bounded(deployment: Deployment, believed: Iterable[tuple[CapName, int]]) -> Caps:
    most: dict[CapKind, int] = {}
    for name, number in believed:
        usable = _usable(name, number, deployment)
        most[name.kind] = min(usable, most.get(name.kind, usable))
    caps = deployment.caps
    return Caps(
        max_items=min(caps.max_items, most.get(CapKind.ITEMS, caps.max_items)),
        max_item_tokens=caps.max_item_tokens,
        max_call_tokens=_lower(caps.max_call_tokens, most.get(CapKind.CALL_TOKENS)),
        max_call_bytes=_lower(caps.max_call_bytes, most.get(CapKind.CALL_BYTES)),
    )


def _usable(name: CapName, number: int, deployment: Deployment) -> int:
    """Keep headroom below a sum the provider named, where it counts otherwise than we do."""
    counts_alike = name.kind is CapKind.ITEMS or (
        name.kind is CapKind.CALL_TOKENS and deployment.encoding
    )
    if counts_alike or not name.is_named:
        return number
    return max(1, int(number * HEADROOM))


def _lower(configured: int | None, learned: int | None) -> int | None:
    if configured is None or learned is None:
        return learned if configured is None else configured
    return min(configured, learned)
