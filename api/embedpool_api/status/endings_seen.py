"""What the newest usage records say: how full batches were, what failed, what it cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from msgspec import MsgspecError

from embedpool_api.accounts.money import in_dollars
from embedpool_api.accounts.spend_rows import FENCED, Row, Rows
from embedpool_api.status.lanes_seen import DeadLetter
from embedpool_shared import errors
from embedpool_shared.jobs import LedgerRecord, WireVersionUnknown, records_from
from embedpool_shared.statuses import STATUS_OF

MAX_ENTRIES: Final = 50
MAX_BYTES: Final = 64 * 1024
"""Some 700 records; reading more would hold up callers' answers."""
MAX_FAULTS: Final = 20
MAX_ROWS: Final = 12
COUNT_ONLY: Final = "count"
"""The reason of a record whose request was answered, though the provider counted otherwise."""
DEAD_LETTER: Final = "dead letter"


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry of the spend log."""

    id: str
    lane: str
    committed_ms: int  # by the clock of the lane's Redis
    records: list[LedgerRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """How full a lane's newest batches were, on average."""

    batches: int
    items: float
    requests: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What went wrong, by class and code; never in words, which may quote a text."""

    at_ms: int
    model: str
    provider: str
    kind: str
    status: int | None  # what the caller saw; None where nobody saw anything
    code: str | None
    items: int
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One request, or many lines of a batch together, as the usage record remembers it."""

    at_ms: int
    requests: int
    account: str
    model: str
    provider: str
    items: int
    used: int
    usd: float
    kind: str  # of its error; "" for an answered one


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """The sums over the newest requests."""

    requests: int
    since_ms: int | None
    items: int
    used: int
    paid: int
    saved: int
    waste: int
    usd: float


def logged(found: Iterable[Sequence[Any]]) -> list[Logged]:
    """Read entries of the spend log, the newest first, as many as are quickly read."""
    entries, left_bytes = [], MAX_BYTES
    for entry_id, flat in found:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if len(fields[b"r"]) > left_bytes:
            continue
        left_bytes -= len(fields[b"r"])
        try:
            records = records_from(fields[b"r"])
        except (MsgspecError, WireVersionUnknown):
            continue  # a newer worker's; the rest is worth showing
        committed_ms = int(fields[b"i"].partition(b"-")[0])
        entries.append(Logged(entry_id.decode(), fields[b"l"].decode(), committed_ms, records))
    return entries


def rows_of(entries: Iterable[Logged]) -> list[Row]:
    """Gather the records into requests, the newest first."""
    rows = Rows()
    for entry in entries:
        rows.add(entry.id, entry.records)
    return rows.take(only_whole=False)[::-1]


def filling(entries: Iterable[Logged]) -> dict[str, Filling]:
    """Say how full the batches of each lane were.

    A batch is committed by one script, whose records share a millisecond: nearly always that tells
    the batches of a lane apart. Lines of the Batch API are booked apart from their provider calls,
    very many at once: of those nobody can say it here.
    """
    batches: dict[tuple[str, int], list[LedgerRecord]] = {}
    for entry in entries:
        sent = [record for record in entry.records if _was_sent(record)]
        if sent:
            batches.setdefault((entry.lane, entry.committed_ms), []).extend(sent)
    by_lane: dict[str, list[list[LedgerRecord]]] = {}
    for (lane, _), records in batches.items():
        by_lane.setdefault(lane, []).append(records)
    return {
        lane: Filling(
            batches=len(sent),
            items=sum(record.items for batch in sent for record in batch) / len(sent),
            requests=sum(map(len, sent)) / len(sent),
        )
        for lane, sent in by_lane.items()
    }


def faults(rows: Iterable[Row], dead_letters: Iterable[DeadLetter]) -> list[Fault]:
    """List what went wrong last, the newest first."""
    failed = [_fault(row) for row in rows if _kind(row) and row.first.requests]
    given_up = [
        Fault(
            at_ms=dead.at_ms,
            model=dead.model,
            provider="",
            kind=DEAD_LETTER,
            status=None,
            code=None,
            items=dead.items,
            request_id="",
        )
        for dead in dead_letters
    ]
    found = sorted([*failed, *given_up], key=lambda fault: fault.at_ms, reverse=True)
    return found[:MAX_FAULTS]


def ended(rows: Iterable[Row]) -> list[Ended]:
    """Show the newest requests; what was only tried in vain before is none."""
    return [
        Ended(
            at_ms=_at_ms(row),
            requests=row.first.requests,
            account=row.first.account,
            model=row.first.model,
            provider=row.first.provider,
            items=row.items,
            used=row.used,
            usd=in_dollars(row.cost_pico_usd),
            kind=_kind(row),
        )
        for row in islice((row for row in rows if row.first.requests), MAX_ROWS)
    ]


def spending(rows: Sequence[Row]) -> Spending:
    """Add the newest requests up."""
    return Spending(
        requests=sum(row.first.requests for row in rows if row.first.reason != FENCED),
        since_ms=min(map(_at_ms, rows), default=None),
        items=sum(row.items for row in rows),
        used=sum(row.used for row in rows),
        paid=sum(row.paid for row in rows),
        saved=sum(row.saved for row in rows),
        waste=sum(row.waste for row in rows),
        usd=in_dollars(sum(row.cost_pico_usd for row in rows)),
    )


def _was_sent(record: LedgerRecord) -> bool:
    is_answered = record.reason in {"", COUNT_ONLY} and not _is_booked(record)
    return is_answered and not (record.cached and record.cached == record.used)


def _is_booked(record: LedgerRecord) -> bool:
    """Say whether it adds up lines of a batch, which came in no pack and are billed as one."""
    return record.bill is not None and record.bill.request == record.pack_id


def _kind(row: Row) -> str:
    return "" if row.reason in {COUNT_ONLY, FENCED} else row.reason


def _at_ms(row: Row) -> int:
    return int(row.place[0].partition("-")[0])


_OF_CLASS: Final[Mapping[str, tuple[int, str | None]]] = {
    name: (STATUS_OF[cls].status, STATUS_OF[cls].code)
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and cls in STATUS_OF
}


def _fault(row: Row) -> Fault:
    status, code = _OF_CLASS.get(row.reason, (None, None))
    return Fault(
        at_ms=_at_ms(row),
        model=row.first.model,
        provider=row.first.provider,
        kind=row.reason,
        status=status,
        code=code,
        items=row.items,
        request_id=row.request_id,
    )
