"""Which alert, or which panel of the Overview, names which fault: the game day holds them to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ByAlert:
    """The fault is named by this alert, and by no other of this table.

    Some of its labels say what the fault is about; without any, it is about the pool.
    """

    alert: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ByPanel:
    """The fault is named by a value that this panel colours other than good.

    Labels of that value's series say what the fault is about.
    """

    panel: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks, in an operator's words."""

    what: str
    shown: ByAlert | ByPanel


FAULTS: Final = (
    Fault("a worker dead", ByAlert("EmbedpoolWorkersLost")),
    Fault("all workers dead", ByAlert("EmbedpoolNoWorkers")),
    # A key that cools is the pool doing its work: nobody need be woken.
    Fault("a key cooling", ByPanel("Keys not ready", ("provider", "key"))),
    Fault("a key retired", ByAlert("EmbedpoolKeyRetired", ("provider", "key"))),
    Fault("a provider slow", ByAlert("EmbedpoolProviderSlow", ("provider",))),
    Fault("the queue growing", ByAlert("EmbedpoolQueueGrowing", ("model",))),
    Fault("Redis away", ByAlert("EmbedpoolRedisAway", ("role",))),
    Fault("an admission flood", ByAlert("EmbedpoolAdmissionFlood", ("reason",))),
)
