"""What the pool promises, as numbers: the alerts in `prometheus/rules` hold the same ones."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.queries import recorded

AVAILABILITY: Final = 0.999
"""Share of embeddings requests that do not end with a 5xx."""
IN_TIME: Final = 0.99
"""Share of interactive requests answered within `measures.LATENCY_OBJECTIVE_S`."""
PAGING_BURN: Final = 14.4
"""A budget that burns so many times too fast for an hour has lost 2 % of what 30 days allow."""


def missed(part: str, whole: str, *, over: str) -> str:
    """Say which share of the recorded `whole` was the recorded `part`."""
    bad = f"sum(sum_over_time({recorded(part)}[{over}]))"
    return f"{bad} / (sum(sum_over_time({recorded(whole)}[{over}])) > 0)"


def kept(part: str, whole: str, *, over: str) -> str:
    """Say which share was not."""
    return f"1 - {missed(part, whole, over=over)}"


def burn(part: str, whole: str, *, over: str, objective: float) -> str:
    """Say how many times faster than the objective allows its budget burns."""
    return f"{missed(part, whole, over=over)} / {1 - objective:.3g}"
