"""One line of the log for each request: who asked for what, what came of it, where the time went.

It joins with the lines of provider calls by the places of its jobs (`pack:number`). What belongs to
a caller is there by account; texts, keys and unknown names are not.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from embedpool_api.metrics import CLASS_OF
from embedpool_api.passage import Passage
from embedpool_api.paths import OPS
from embedpool_shared.accounts import PICO_PER_USD
from embedpool_shared.errors import EmbedPoolError
from embedpool_shared.statuses import row_of
from embedpool_shared.telemetry.journal import LEVELS, Journal, LogLine, instant

HUNG_UP: Final = 499
"""What the log says of a request whose caller did not wait; nobody was answered that."""
MAX_JOBS: Final = 32
"""So many places of jobs are listed; a larger request has more."""


class RequestLine(LogLine, tag="request"):
    """What is logged of a request."""

    id: str
    method: str
    route: str
    status: int
    total_ms: float
    bytes_in: int = 0
    bytes_out: int = 0
    is_slow: bool = False
    error: str = ""
    code: str = ""
    caller: str = ""
    model: str = ""
    lane_class: str = ""
    items: int = 0
    tokens: int = 0
    usd: float = 0.0
    cached_items: int = 0
    queue_ms: float = 0.0
    provider_ms: float = 0.0
    batch_items: int = 0
    batch_requests: int = 0
    provider: str = ""
    deployment: str = ""
    tries: int = 0
    jobs: list[str] = msgspec.field(default_factory=list)


class RequestLog:
    """Writes requests into the journal."""

    def __init__(self, journal: Journal) -> None:
        """Write to `journal`."""
        self._journal = journal

    def ended(self, passage: Passage, took_s: float, *, is_slow: bool) -> None:
        """Write a request that is over, where its level is wanted."""
        status = passage.status or HUNG_UP
        level = _level(passage.route, status, is_slow=is_slow)
        if level < self._journal.level:
            return
        line = RequestLine(
            at=instant(),
            level=LEVELS[level],
            id=passage.request_id,
            method=passage.method,
            route=passage.route,
            status=status,
            total_ms=_ms(took_s),
            bytes_in=passage.bytes_in,
            bytes_out=passage.bytes_out,
            is_slow=is_slow,
        )
        _fill_in(line, passage)
        self._journal.say(level, line)


def _level(route: str, status: int, *, is_slow: bool) -> int:
    if status == 500:
        return logging.ERROR
    if route == OPS:  # probes and pages that look again every second
        return logging.DEBUG
    return logging.WARNING if is_slow or status > 500 else logging.INFO


def _fill_in(line: RequestLine, passage: Passage) -> None:
    if passage.error is not None:
        line.error = type(passage.error).__name__
        line.code = _code(passage.error)
    if passage.caller is not None:
        line.caller = passage.caller.account
    line.model = passage.model
    order = passage.order
    if order is not None:
        line.lane_class = CLASS_OF[order.lane_class]
        line.items = len(order.fitted.inputs)
    if passage.answer is not None:
        line.jobs = [
            f"{posted.pack.pack_id}:{posted.job.number}"
            for posted in passage.answer.jobs[:MAX_JOBS]
            if posted.pack is not None
        ]
    line.tokens = passage.tokens
    if pico_usd := passage.cost_pico_usd:
        line.usd = pico_usd / PICO_PER_USD
    _fill_in_call(line, passage)


def _fill_in_call(line: RequestLine, passage: Passage) -> None:
    slowest = passage.slowest
    if slowest is None:
        return
    line.cached_items = passage.cached_items
    line.queue_ms = slowest.queue_ms
    trace = slowest.trace
    if trace is not None:
        line.provider_ms = trace.provider_ms
        line.batch_items = trace.items
        line.batch_requests = trace.requests
        line.provider = trace.provider
        line.deployment = trace.deployment
        line.tries = trace.tries


def _code(error: BaseException) -> str:
    code: Any = error.code if isinstance(error, EmbedPoolError) else None
    return code or row_of(error).code or ""


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)
