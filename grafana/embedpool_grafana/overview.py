"""The Overview: is it healthy, what waits, how full are the batches, what will break next."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.boards import Board
from embedpool_grafana.overview_health import HEALTH
from embedpool_grafana.overview_pool import BATCHES, QUEUE, WORKERS
from embedpool_grafana.overview_requests import ERRORS, LATENCY, TRAFFIC

OVERVIEW: Final = Board(
    uid="embedpool-overview",
    title="embedpool / Overview",
    description="Is it healthy, what waits, how full are the batches, what will break next.",
    rows=(HEALTH, TRAFFIC, LATENCY, ERRORS, BATCHES, QUEUE, WORKERS),
)
