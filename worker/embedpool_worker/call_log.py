"""One line of the log for each provider call: where to, with which key, for whom, what came of it.

It joins with the lines of the requests it was made for by the places of their jobs (`pack:number`).
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from embedpool_shared.serials import serials
from embedpool_shared.telemetry.journal import LEVELS, Journal, LogLine, instant
from embedpool_worker.called import CUT_OFF, OK, Called

MAX_JOBS: Final = 32
"""So many places of jobs are listed; a fuller call has more."""
EXPECTED: Final = frozenset({OK, "refused", "cap"})
"""Outcomes that are no trouble of the provider's."""
_call_ids: Final = serials("call_")


class CallLine(LogLine, tag="provider_call"):
    """What is logged of a provider call."""

    id: str
    model: str
    provider: str
    deployment: str
    key: str
    outcome: str
    ms: float
    items: int
    inputs: int
    tries: int
    tokens: int = 0
    error: str = ""
    code: str = ""
    jobs: list[str] = msgspec.field(default_factory=list)


class CallLog:
    """Writes provider calls into the journal."""

    def __init__(self, journal: Journal) -> None:
        """Write to `journal`."""
        self._journal = journal

    def ended(self, model: str, called: Called) -> None:
        """Write a call that is over, where its level is wanted."""
        outcome = called.outcome
        level = logging.INFO if outcome in EXPECTED else logging.WARNING
        if level < self._journal.level or outcome == CUT_OFF:
            return
        error = called.error
        line = CallLine(
            at=instant(),
            level=LEVELS[level],
            id=next(_call_ids),
            model=model,
            provider=called.deployment.provider,
            deployment=called.deployment_id,
            key=called.key_id,
            outcome=outcome,
            ms=round(called.took_s * 1_000, 3),
            items=len(called.items),
            inputs=called.inputs,
            tries=called.tries,
            tokens=called.tokens,
            error=type(error).__name__ if error is not None else "",
            code=(error.code or "") if error is not None else "",
            jobs=[f"{job.pack.pack_id}:{job.job.number}" for job in called.jobs(most=MAX_JOBS)],
        )
        self._journal.say(level, line)
