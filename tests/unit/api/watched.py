"""A witness whose metrics and lines are at hand, and passages to show it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from embedpool_api.attribution import NOTHING
from embedpool_api.callers import ANYBODY, Caller
from embedpool_api.metrics import ApiMetrics
from embedpool_api.orders import Order
from embedpool_api.request_log import RequestLog
from embedpool_api.traces import RequestTraces
from embedpool_api.witness import Witness
from embedpool_shared.catalog import ModelCard
from embedpool_shared.embedding.fitting import Fitted
from embedpool_shared.embedding.models import Resolved
from embedpool_shared.jobs import CacheUse, CallTrace, JobReply, LaneClass, MergeKey
from embedpool_shared.measures import OTHER_TEAM
from embedpool_shared.telemetry.first_names import FirstNames
from embedpool_shared.telemetry.journal import Journal
from embedpool_shared.telemetry.meters import Meters, Spread
from embedpool_shared.telemetry.spans import Tracing

MODEL: Final = "text-embedding-3-small"
RESOLVED: Final = Resolved(
    ModelCard(name=MODEL, providers=("openai",), price_per_token_pico_usd=20_000), MODEL, MODEL
)


@dataclass
class Watched:
    """What a witness has told so far."""

    has_cache: bool = True
    slow_request_s: float = 5.0
    tracing: Tracing | None = None
    level: int = logging.INFO
    meters: Meters = field(default_factory=Meters)
    written: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        journal = Journal(self.written.append, level=self.level, is_json=True)
        self.witness = Witness(
            metrics=ApiMetrics(
                self.meters,
                FirstNames(None, most=200, rest=OTHER_TEAM),
                has_cache=self.has_cache,
                version="1",
            ),
            log=RequestLog(journal),
            slow_request_s=self.slow_request_s,
            traces=RequestTraces(self.tracing) if self.tracing else None,
        )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in self.written]

    def values(self) -> dict[str, float]:
        """Every series that is not zero, by its name and labels; of a histogram the number."""
        found = {
            " ".join((measure.name.removeprefix("embedpool_"), *labels)): (
                sum(one.counts) if isinstance(one, Spread) else one.value
            )
            for measure, labels, one in self.meters.made
        }
        return {name: value for name, value in found.items() if value}

    def series(self) -> int:
        """How many instruments there are."""
        return len(self.meters.made)


def order_of(*texts: str, caller: Caller = ANYBODY, trace: str = "") -> Order:
    """An order of these texts."""
    return Order(
        resolved=RESOLVED,
        fitted=Fitted(MergeKey(MODEL), list(texts), None),
        caller=caller,
        attribution=NOTHING,
        lane_class=LaneClass.INTERACTIVE,
        cache=CacheUse.BOTH,
        call_id="req_1",
        give_up_at=1e9,
        trace=trace,
    )


def reply_of(
    *, tokens: int = 12, cached: int = 0, queue_ms: float = 1.5, tries: int = 1
) -> JobReply:
    """A reply."""
    trace = CallTrace("theirs", "openai", "openai/small", 20, 9, tries, 33.0)
    return JobReply(0, b"", 0, tokens, queue_ms, trace, None, cached)
