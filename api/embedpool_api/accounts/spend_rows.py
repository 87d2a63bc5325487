"""Usage records as rows of the spend log: what became of one request, its parts together. Pure.

A large request travels in several jobs, each with an ending of its own. They make one row, at the
place of the first part. Tokens paid twice are no request's ending, but rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from embedpool_api.accounts.money import in_dollars
from embedpool_shared.accounts import AccountKind
from embedpool_shared.jobs import LedgerRecord

FENCED: Final = "fenced"
"""The reason of a record that is nobody's ending: a worker paid for what another one answered."""
COUNTED: Final = "count"
"""The reason of waste without a failure: the provider counted more tokens than the caller used."""
_OF_ONE: Final = (AccountKind.TEAM, AccountKind.USER, AccountKind.END_USER)

Place = tuple[str, int]
"""A record's entry in the spend log, and its number in it."""


@dataclass(slots=True)
class Row:
    """One request's ending, as far as its parts are known."""

    name: str
    place: Place  # of the first part, else of the first one seen
    first: LedgerRecord
    parts: set[int] = field(default_factory=set)
    has_place: bool = False
    cost_pico_usd: int = 0
    used: int = 0
    paid: int = 0
    saved: int = 0
    waste: int = 0
    cached: int = 0
    items: int = 0
    reason: str = ""
    has_failed: bool = False

    def add(self, record: LedgerRecord, place: Place) -> None:
        """Add one part."""
        part = record.bill.part if record.bill else 0
        self.parts.add(part)
        if part == 0 or record.reason == FENCED:
            self.place, self.first, self.has_place = place, record, True
        self.cost_pico_usd += record.cost_pico_usd
        self.used += record.used
        self.paid += record.paid
        self.saved += record.saved
        self.waste += record.waste
        self.cached += record.cached
        self.items += record.items
        if record.reason and not self.has_failed:
            self.reason, self.has_failed = record.reason, record.reason != COUNTED

    @property
    def is_whole(self) -> bool:
        """Whether all of the request's parts are in it."""
        bill = self.first.bill
        return bill is None or self.first.reason == FENCED or len(self.parts) >= bill.jobs

    def accounts(self) -> frozenset[str]:
        """Name everybody it was counted for by name."""
        bill = self.first.bill
        return frozenset((self.first.account, *(bill.accounts if bill else ())))

    @property
    def request_id(self) -> str:
        """The id that the caller saw."""
        bill = self.first.bill
        own = f"{self.first.pack_id}-{self.first.number}"
        return (bill.call_id or bill.request if bill else "") or own

    def shown(self) -> dict[str, Any]:
        """Show it under LiteLLM's names, and the ledger's four columns."""
        bill = self.first.bill
        kind, _, payer = self.first.account.partition(":")
        named = _named(bill.accounts if bill else ())
        tags = named.pop(AccountKind.TAG.value, [])
        at = _instant(self.place[0])
        return {
            "request_id": self.request_id,
            "call_type": "embedding",
            "api_key": payer if kind == AccountKind.KEY else self.first.account,
            "token_id": payer if kind == AccountKind.KEY else None,
            **{_COLUMN[kind]: "".join(named.get(kind.value, [])[:1]) or None for kind in _OF_ONE},
            "model": self.first.model,
            "custom_llm_provider": self.first.provider or None,
            "provider": self.first.provider or None,
            "prompt_tokens": self.used,
            "completion_tokens": 0,
            "total_tokens": self.used,
            "spend": in_dollars(self.cost_pico_usd),
            "startTime": at,
            "endTime": at,
            "metadata": orjson.loads(bill.metadata) if bill and bill.metadata else {},
            "request_tags": tags,
            "items": self.items,
            "used": self.used,
            "paid": self.paid,
            "saved": self.saved,
            "waste": self.waste,
            "cached": self.cached,
            "reason": self.reason or None,
            "status": "failure" if self.has_failed else "success",
        }


_COLUMN: Final = {
    AccountKind.TEAM: "team_id",
    AccountKind.USER: "user",
    AccountKind.END_USER: "end_user",
}


class Rows:
    """Records read in any order, gathered into rows."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.of: dict[str, Row] = {}

    def add(self, entry_id: str, records: Iterable[LedgerRecord]) -> None:
        """Take in the records of one entry of the spend log."""
        for number, record in enumerate(records):
            place = (entry_id, number)
            name = _name(record, place)
            row = self.of.get(name)
            if row is None:
                row = self.of[name] = Row(name, place, record)
            row.add(record, place)

    def take(self, *, only_whole: bool) -> list[Row]:
        """Take rows out, in the order of the log."""
        chosen = {n: row for n, row in self.of.items() if row.is_whole or not only_whole}
        for name in chosen:
            del self.of[name]
        return sorted(chosen.values(), key=lambda row: position(row.place))


def complete(rows: Mapping[str, Row], entry_id: str, records: Iterable[LedgerRecord]) -> None:
    """Add to `rows` the parts they lack that are in this entry."""
    for number, record in enumerate(records):
        place = (entry_id, number)
        row = rows.get(_name(record, place))
        part = record.bill.part if record.bill else 0
        if row is not None and part not in row.parts:
            row.add(record, place)


def position(place: Place) -> tuple[int, int, int]:
    """Compare places by it."""
    ms, _, sequence = place[0].partition("-")
    return int(ms), int(sequence), place[1]


def _name(record: LedgerRecord, place: Place) -> str:
    bill = record.bill
    if bill is None or bill.jobs <= 1 or record.reason == FENCED:
        return f"{place[0]}/{place[1]}"
    return f"request {bill.request}"


def _named(accounts: Iterable[str]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for account in accounts:
        kind, _, account_id = account.partition(":")
        named.setdefault(kind, []).append(account_id)
    return named


def _instant(entry_id: str) -> str:
    ms = int(entry_id.partition("-")[0])
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()
