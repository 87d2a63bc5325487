"""Going through all accounts of a kind, whole page by whole page.

A listing passes over all accounts, in small steps, and remembers of each only what it is sorted
by: pages stay the same while spend moves accounts about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from embedpool_api.accounts.kept import FIELDS, Kept, R, Spent, kept, spent_of, time_of
from embedpool_api.accounts.records import Records
from embedpool_api.accounts.shared_line import SharedLine
from embedpool_shared.accounts import AccountKind, account_name
from embedpool_shared.names import Names

STEP: Final = 250
MAX_LISTED: Final = 100_000
"""Accounts of a kind that a listing passes over, those heard of last first."""
STALE_S: Final = 86_400.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of all."""

    rows: list[T]
    total: int


@dataclass(frozen=True, slots=True)
class Spender:
    """An account of any kind, and what was spent in its name."""

    id: str
    spent: Spent


class Listing:
    """Reads pages of accounts."""

    def __init__(self, line: SharedLine, names: Names) -> None:
        """Read over `line`."""
        self._line = line
        self._names = names

    async def page(
        self,
        records: Records[R],
        wanted: Callable[[R], bool],
        *,
        number: int,
        size: int,
    ) -> Page[Kept[R]]:
        """Read page `number`, from 1, of the accounts wanted, the youngest first."""
        found = [
            (-one.record.created_at, one.record.id) async for one in self.each(records, wanted)
        ]
        chosen = [account_id for _, account_id in _cut(sorted(found), number, size)]
        rows = await records.find_all(chosen)
        return Page([row for row in rows if row is not None], len(found))

    async def each(
        self, records: Records[R], wanted: Callable[[R], bool]
    ) -> AsyncIterator[Kept[R]]:
        """Pass over all accounts wanted; those long gone leave the list on the way."""
        async for account_id, values, now_s in self._passed(records.kind):
            one = kept(records.record_type, values, read_at=now_s)
            if one is None:
                await records.delist(account_id, before_s=now_s - STALE_S)
            elif wanted(one.record):
                yield one

    async def spenders(self, kind: AccountKind, *, number: int, size: int) -> Page[Spender]:
        """Read page `number`, from 1, of all accounts of a kind, the greatest spenders first."""
        found = [
            (-spent_of(values).cost_pico_usd, account_id)
            async for account_id, values, _ in self._passed(kind)
        ]
        chosen = [account_id for _, account_id in _cut(sorted(found), number, size)]
        reads = self._reads(kind, chosen)
        values_of = await self._line.call_all(reads) if reads else []
        rows = [Spender(it, spent_of(v)) for it, v in zip(chosen, values_of, strict=True)]
        return Page(rows, len(found))

    async def spent(self, kind: AccountKind, account_id: str) -> Spent:
        """Read what was spent for one account."""
        (values,) = await self._line.call_all(self._reads(kind, [account_id]))
        return spent_of(values)

    async def _passed(
        self, kind: AccountKind
    ) -> AsyncIterator[tuple[str, list[bytes | None], float]]:
        index = self._names.accounts(kind.value)
        (ids,) = await self._line.call_all([("ZRANGE", index, 0, MAX_LISTED - 1, "REV")])
        for start in range(0, len(ids), STEP):
            some = [account_id.decode() for account_id in ids[start : start + STEP]]
            now, *found = await self._line.call_all([("TIME",), *self._reads(kind, some)])
            for account_id, values in zip(some, found, strict=True):
                yield account_id, values, time_of(now)

    def _reads(self, kind: AccountKind, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        names = [self._names.account(account_name(kind, account_id)).account for account_id in ids]
        return [("HMGET", name, *FIELDS) for name in names]


def _cut(found: Sequence[T], number: int, size: int) -> Sequence[T]:
    return found[(number - 1) * size : number * size]
