"""The records of one kind of account in Redis: read, created, changed and removed.

Invariants
- A change is written only over the record it was made from: no change undoes another one.
- A record is listed before it is written, and until it is gone: an account is never out of sight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic

import msgspec

from embedpool_api.accounts.kept import FIELDS, Kept, R, kept, time_of
from embedpool_api.accounts.shared_line import SharedLine
from embedpool_shared.accounts import (
    AccountKind,
    KeyRecord,
    TeamRecord,
    UserRecord,
    account_name,
)
from embedpool_shared.errors import BadRequest, NotFound, Overloaded
from embedpool_shared.names import Names
from embedpool_shared.scripts import script

SPEND_OUTLIVES_S: Final = 86_400
"""How long what was spent for a removed account is kept, for what is still on its way."""
CLAIM_S: Final = 60.0
"""How old a claim must be before it counts for nothing where no record bears it out."""
ALWAYS: Final = 1 << 40
MAX_TRIES: Final = 10
_encoder = msgspec.json.Encoder()


class AlreadyThere(BadRequest):
    """An account of that id or alias exists."""


class Records(Generic[R]):
    """All accounts of one kind."""

    def __init__(self, line: SharedLine, names: Names, kind: AccountKind, record: type[R]) -> None:
        """Keep records of the type `record`."""
        self.kind = kind
        self._line = line
        self._names = names
        self.record_type: type[R] = record
        self._index = [names.accounts(kind.value), names.aliases(kind.value)]

    async def now_s(self) -> float:
        """Read Redis' clock, in Unix seconds."""
        (now,) = await self._line.call_all([("TIME",)])
        return time_of(now)

    async def find(self, account_id: str) -> Kept[R] | None:
        """Read an account."""
        return (await self.find_all([account_id]))[0]

    async def find_all(self, account_ids: Sequence[str]) -> list[Kept[R] | None]:
        """Read several accounts, in their order."""
        reads: list[tuple[Any, ...]] = [
            ("HMGET", self._account(account_id), *FIELDS) for account_id in account_ids
        ]
        now, *found = await self._line.call_all([("TIME",), *reads])
        return [kept(self.record_type, values, read_at=time_of(now)) for values in found]

    async def get(self, account_id: str) -> Kept[R]:
        """Read an account; raises `NotFound`."""
        found = await self.find(account_id)
        if found is None:
            raise self.unknown(account_id)
        return found

    async def create(self, record: R) -> Kept[R]:
        """List and write a new account; raises `AlreadyThere` naming the field."""
        await self.enlist(record.id, _alias(record))
        return await self.write_new(record)

    async def write_new(self, record: R) -> Kept[R]:
        """Write a new account that is already listed; raises `AlreadyThere`."""
        now_s = await self.now_s()
        record = self._stamped(record, created_at=now_s, updated_at=now_s)
        if not await self._write(record.id, b"", record):
            raise AlreadyThere(
                f"{self._called(record.id)} exists already; use /{self.kind.value}/update",
                param=f"{self.kind.value}_id",
            )
        return await self.get(record.id)

    async def change(self, account_id: str, edited: Callable[[R, float], R]) -> tuple[R, Kept[R]]:
        """Write what `edited` makes of the record and of Redis' time; return both records.

        It is asked again when somebody else's change came first. Raises `NotFound`.
        """
        for _ in range(MAX_TRIES):
            found = await self.get(account_id)
            record = self._stamped(edited(found.record, found.read_at), updated_at=found.read_at)
            if await self._write(account_id, found.raw, record):
                return found.record, await self.get(account_id)
        raise Overloaded("others keep changing this account; try again", retry_after_s=1.0)

    async def remove(self, account_id: str) -> None:
        """Forget the record, and what bounds it; what was spent goes later, by itself."""
        for _ in range(MAX_TRIES):
            found = await self.find(account_id)
            if found is None or await self._write(account_id, found.raw, None):
                return
        raise Overloaded("others keep changing this account; try again", retry_after_s=1.0)

    async def is_listed(self, account_id: str) -> bool:
        """Say whether it is on the list, perhaps without a record."""
        (score,) = await self._line.call_all([("ZSCORE", self._index[0], account_id)])
        return score is not None

    async def enlist(self, account_id: str, alias: str = "") -> None:
        """Put it on the list and claim an alias for it; raises `AlreadyThere`."""
        void = b""
        for _ in range(MAX_TRIES):
            claim = await self._line.run(script("enlist"), self._index, [account_id, alias, void])
            if not claim:
                return
            if not await self._is_void(claim, alias):
                break
            void = claim
        raise AlreadyThere(f"a key with the alias {alias!r} exists already", param="key_alias")

    async def delist(self, account_id: str, alias: str = "", *, before_s: float = ALWAYS) -> None:
        """Take it off the list unless it was heard of after `before_s`, and free its alias."""
        await self._line.run(script("delist"), self._index, [account_id, alias, int(before_s)])

    async def free_alias(self, account_id: str, alias: str) -> None:
        """Let others have an alias."""
        await self.delist(account_id, alias, before_s=0)

    async def with_alias(self, alias: str) -> Kept[R] | None:
        """Find the account that has this alias."""
        (claim,) = await self._line.call_all([("HGET", self._index[1], alias)])
        found = None if claim is None else await self.find(_claimant(claim))
        return found if found is not None and _alias(found.record) == alias else None

    def unknown(self, account_id: str) -> NotFound:
        """Say that there is no such account; ids are no secrets, but whatever else was given is."""
        return NotFound(f"there is no {self._called(account_id)}", param=self._param)

    @property
    def _param(self) -> str:
        return "key" if self.kind is AccountKind.KEY else f"{self.kind.value}_id"

    def _called(self, account_id: str) -> str:
        return "such key" if self.kind is AccountKind.KEY else f"{self.kind.value} {account_id!r}"

    async def _is_void(self, claim: bytes, alias: str) -> bool:
        """Whether a claim is old, and the record it was made for has not got the alias."""
        held = await self.find(_claimant(claim))
        if held is not None:
            return _alias(held.record) != alias and _age_s(claim, held.read_at) > CLAIM_S
        return _age_s(claim, await self.now_s()) > CLAIM_S

    async def _write(self, account_id: str, before: bytes, record: R | None) -> bool:
        every = (record.limits.budget_every if record else None) or ""
        after = _encoder.encode(record) if record else b""
        arguments = [before, after, every, SPEND_OUTLIVES_S]
        account = self._account(account_id)
        return bool(await self._line.run(script("record"), [account], arguments))

    def _account(self, account_id: str) -> str:
        return self._names.account(account_name(self.kind, account_id)).account

    def _stamped(self, record: R, **times: float) -> R:
        return msgspec.structs.replace(record, **times)


def _alias(record: KeyRecord | TeamRecord | UserRecord) -> str:
    """Only a key's alias belongs to nobody else."""
    return (record.alias or "") if isinstance(record, KeyRecord) else ""


def _claimant(claim: bytes) -> str:
    return claim.decode().partition(" ")[2]


def _age_s(claim: bytes, now_s: float) -> float:
    return now_s - float(claim.partition(b" ")[0])
