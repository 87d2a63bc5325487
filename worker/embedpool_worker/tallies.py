"""What ledger records add up to, for everybody they are counted for. Pure.

A record counts for whoever pays, for the other accounts on its bill (team, user, end user, tags),
for its lane's model, its provider and the whole pool. A request counts once: with the ending of its
first job; a record of a batch's lines counts for as many as it says. Tokens paid twice (`FENCED`)
are the pool's loss: they cost nobody anything, are no request, and settle no reservation, because
the job has its real ending elsewhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from embedpool_shared.accounts import AccountKind, account_name
from embedpool_shared.jobs import Bill, LedgerRecord
from embedpool_worker.accounting import FENCED

EVERYBODY: Final = account_name(AccountKind.GLOBAL, "all")


@dataclass(slots=True)
class Settlement:
    """What the endings of some jobs say of the reservation they were in."""

    ended: int = 0  # jobs
    tokens: int = 0  # reserved for them
    cost_pico_usd: int = 0  # … as well
    used: int = 0  # tokens, in the end


@dataclass(slots=True)
class Tally:
    """What some records add up to for one account."""

    requests: int = 0
    cost_pico_usd: int = 0
    used: int = 0
    paid: int = 0
    saved: int = 0
    waste: int = 0
    settlements: defaultdict[str, Settlement] = field(  # by reservation
        default_factory=lambda: defaultdict(Settlement)
    )

    def sums(self) -> list[str | int]:
        """List the sums as the script `apply` takes them."""
        return [self.requests, self.cost_pico_usd, self.used, self.paid, self.saved, self.waste]

    def settled(self) -> list[str | int]:
        """List the settlements as the script `apply` takes them."""
        listed: list[str | int] = [len(self.settlements)]
        for reservation, one in self.settlements.items():
            listed += [reservation, one.ended, one.tokens, one.cost_pico_usd, one.used]
        return listed


class Tallies:
    """The sums over some records of one lane, by account."""

    def __init__(self, lane: str) -> None:
        """Begin with nothing; `lane` is the model the lane is named for."""
        self.of: defaultdict[str, Tally] = defaultdict(Tally)
        self.wasted: Counter[str] = Counter()  # tokens by the records' reasons
        self._model = account_name(AccountKind.MODEL, lane)
        self._together: dict[tuple[str, ...], list[Tally]] = {}

    def add(self, records: Iterable[LedgerRecord]) -> None:
        """Count these records."""
        for record in records:
            counts = record.reason != FENCED
            if record.waste:
                self.wasted[record.reason] += record.waste
            is_first = record.bill is None or record.bill.part == 0
            requests = record.requests if counts and is_first else 0
            cost_pico_usd = record.cost_pico_usd
            for tally in self._counted_for(record):
                tally.requests += requests
                tally.cost_pico_usd += cost_pico_usd
                tally.used += record.used
                tally.paid += record.paid
                tally.saved += record.saved
                tally.waste += record.waste
            if counts and record.bill is not None:
                self._settle(record, record.bill)

    def paid(self) -> list[tuple[str, int]]:
        """List what was paid to each provider, in tokens."""
        kind = account_name(AccountKind.PROVIDER, "")
        return [(n.removeprefix(kind), t.paid) for n, t in self.of.items() if n.startswith(kind)]

    def _counted_for(self, record: LedgerRecord) -> list[Tally]:
        """List each account's tally once; most records are for the same few."""
        named = (record.provider, record.account, *(record.bill.accounts if record.bill else ()))
        found = self._together.get(named)
        if found is None:
            provider, *others = named
            provider = provider and account_name(AccountKind.PROVIDER, provider)
            # Each once: a caller may have given one tag twice.
            distinct = dict.fromkeys([*others, self._model, provider, EVERYBODY])
            found = self._together[named] = [self.of[name] for name in distinct if name]
        return found

    def _settle(self, record: LedgerRecord, bill: Bill) -> None:
        for name in bill.reserved:
            one = self.of[name].settlements[bill.reservation]
            one.ended += 1
            one.tokens += bill.reserved_tokens
            one.cost_pico_usd += bill.reserved_tokens * record.price_per_token_pico_usd
            one.used += record.used
