"""The one place that hears of every provider call, and of what goes wrong around them."""

from __future__ import annotations

from collections.abc import Collection

from embedpool_shared.errors import CallTooLarge, ProviderError
from embedpool_shared.measures import UNKNOWN_MODEL
from embedpool_shared.telemetry.journal import Journal, journal
from embedpool_shared.telemetry.meters import Meters
from embedpool_shared.telemetry.spans import Tracing
from embedpool_worker.call_log import CallLog
from embedpool_worker.called import Called, outcome
from embedpool_worker.caps import Caps
from embedpool_worker.metrics import LaneMetrics, WorkerMetrics
from embedpool_worker.traces import CallTraces


class Witness:
    """Tells metrics, log and traces of what happens in one worker process."""

    def __init__(
        self,
        metrics: WorkerMetrics | None = None,
        *,
        models: Collection[str] = (),
        kept: Journal | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """`models` are the lanes of the configuration; any other counts as an unknown model's."""
        self.metrics = metrics or WorkerMetrics(Meters())
        self._models = frozenset(models)
        self._log = CallLog(kept or journal())
        self._traces = CallTraces(tracing) if tracing else None

    def lane(self, model: str) -> LaneWitness:
        """Watch over a lane."""
        label = model if model in self._models else UNKNOWN_MODEL
        return LaneWitness(label, LaneMetrics(self.metrics, label), self._log, self._traces)

    def rows_ended(self, outcome: str, rows: int) -> None:
        """Count rows of a bulk job that are done with."""
        self.metrics.rows.of(outcome).add(rows)


class LaneWitness:
    """Tells of what happens in one lane."""

    def __init__(
        self, model: str, metrics: LaneMetrics, log: CallLog, traces: CallTraces | None
    ) -> None:
        """Speak of the lane as `model`."""
        self.metrics = metrics
        self._model = model
        self._log = log
        self._traces = traces

    def call_began(self, called: Called) -> None:
        """A call is on its way."""
        self.metrics.call_began(called)
        if self._traces is not None:
            self._traces.began(self._model, called)

    def call_ended(self, called: Called, caps: Caps, *, now: float) -> None:
        """It is over, whatever came of it."""
        called.took_s = called.took_s or now - called.began_at
        self.metrics.call_ended(called, caps)
        self._log.ended(self._model, called)
        if self._traces is not None:
            self._traces.ended(self._model, called)

    def tried_again(self, after: ProviderError, provider: str, *, is_failover: bool) -> None:
        """A further try begins."""
        if not isinstance(after, CallTooLarge):
            self.metrics.tried_again(provider, outcome(after), is_failover=is_failover)

    def split(self, refusal: ProviderError | None) -> None:
        """A call is cut into parts."""
        self.metrics.split("cap" if refusal is None else outcome(refusal))


def unwatched() -> LaneWitness:
    """A witness that nobody listens to."""
    return Witness().lane(UNKNOWN_MODEL)
