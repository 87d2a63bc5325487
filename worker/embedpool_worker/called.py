"""One provider call while it is made, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from embedpool_shared.errors import (
    CapExceeded,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_shared.jobs import LaneClass
from embedpool_shared.telemetry.spans import Span
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import HeldJob, Item
from embedpool_worker.providers.port import ProviderAnswer

OK: Final = "ok"
TIMEOUT: Final = "timeout"
"""The outcome, and the error's code, of a call that was not answered in time."""
CUT_OFF: Final = ""
"""The outcome of a call that we ended ourselves: nobody knows what would have come of it."""
OUTCOME_OF: Final[dict[type[ProviderError], str]] = {
    ProviderThrottled: "throttled",
    QuotaExhausted: "quota",
    KeyRejected: "rejected",
    ProviderUnavailable: "unavailable",
    WrongAnswer: "wrong",
    RefusedInput: "refused",
    CapExceeded: "cap",
}
OWN_KEY: Final = "own"
"""What a caller's own provider key is called; it has no id of ours."""

MAX_LOOKED_AT: Final = 256
"""Items looked at for whose they are; a call may have thousands."""


@dataclass(slots=True, eq=False, kw_only=True)
class Called:
    """What is known of a call so far."""

    items: Sequence[Item]
    inputs: int  # sent: the distinct ones
    lane_class: LaneClass
    deployment: Deployment
    key_id: str
    tries: int
    began_at: float
    took_s: float = 0.0
    is_answered: bool = False
    tokens: int = 0  # as the provider reported them
    answer: ProviderAnswer | None = None
    exact: Sequence[int] | None = None  # tokens of each input, where we can count them
    requests: int = 0  # how many were answered by it
    joined: int = 0  # items that came while it was under way
    error: ProviderError | None = None
    span: Span | None = None

    @property
    def outcome(self) -> str:
        """How it ended, as the metrics say it."""
        return OK if self.is_answered else CUT_OFF if self.error is None else outcome(self.error)

    @property
    def deployment_id(self) -> str:
        """The deployment in the configuration that was called, also with a caller's own key."""
        own = self.deployment.id
        return own.removesuffix(":own") if self.deployment.is_callers_own else own

    def jobs(self, *, most: int) -> list[HeldJob]:
        """List the first jobs it is made for, as far as its first items tell."""
        return list(dict.fromkeys([item.job for item in self.items[:MAX_LOOKED_AT]]))[:most]


def outcome(error: ProviderError) -> str:
    """Name how a call ended that raised `error`."""
    if isinstance(error, ProviderUnavailable) and error.code == TIMEOUT:
        return TIMEOUT
    return next((OUTCOME_OF[cls] for cls in type(error).__mro__ if cls in OUTCOME_OF), "wrong")
