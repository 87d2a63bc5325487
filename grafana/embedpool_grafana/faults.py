"""Which alert, or which panel of the Overview, names which fault: the game day holds them to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ByAlert:
    """The fault is named by this alert, and by no other of this table."""

    alert: str


@dataclass(frozen=True, slots=True)
class ByPanel:
    """The fault is named by a value above `above` in this panel's series with these labels."""

    panel: str
    labels: tuple[tuple[str, str], ...]
    above: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks, in an operator's words."""

    what: str
    shown: ByAlert | ByPanel


FAULTS: Final = (
    Fault("a worker dead", ByAlert("EmbedpoolWorkersLost")),
    Fault("all workers dead", ByAlert("EmbedpoolNoWorkers")),
    # A key that cools is the pool doing its work: nobody need be woken.
    Fault("a key cooling", ByPanel("Keys by state", (("state", "cooling"),))),
    Fault("a key retired", ByAlert("EmbedpoolKeyRetired")),
    Fault("a provider slow", ByAlert("EmbedpoolProviderSlow")),
    Fault("the queue growing", ByAlert("EmbedpoolQueueGrowing")),
    Fault("Redis away", ByAlert("EmbedpoolRedisAway")),
    Fault("an admission flood", ByAlert("EmbedpoolAdmissionFlood")),
)
