"""Virtual keys in Redis: made, found by whatever names them, rotated, deleted.

A key works while two things in different slots agree: the name made of its digest leads to its id,
and the record of that id has this digest. So no crash between two steps leaves a key that works
and should not:
- Made and rotated, the name comes first and goes by itself unless the record follows; the record
  is the step that counts, and puts the new digest in the old one's place.
- Deleted, the name goes first: the key is dead from then on. What may be left is on the list, and
  deleting it again finishes the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from embedpool_api.accounts import credentials
from embedpool_api.accounts.kept import Kept
from embedpool_api.accounts.records import AlreadyThere, Records
from embedpool_api.accounts.shared_line import SharedLine
from embedpool_shared.accounts import KeyRecord
from embedpool_shared.names import Names
from embedpool_shared.sealing import Secrets

UNCONFIRMED_S: Final = 3_600
Edit = Callable[[KeyRecord, float], KeyRecord]
"""Makes a record of the one before and of Redis' time; may be asked more than once."""


class Keys:
    """All virtual keys."""

    def __init__(
        self,
        line: SharedLine,
        names: Names,
        records: Records[KeyRecord],
        secrets: Secrets,
        prefixes: Sequence[str],
    ) -> None:
        """Keys of ours begin with one of `prefixes`; new ones with the first."""
        self.records = records
        self._line = line
        self._names = names
        self._secrets = secrets
        self._prefixes = prefixes

    def secret(self, brought: str | None = None) -> str:
        """Make a key, or accept the one that was brought; raises `BadRequest`."""
        prefix = self._prefixes[0]
        if brought is None:
            return credentials.new_key(prefix)
        return credentials.brought_key(brought, prefix)

    async def create(self, secret: str, record: KeyRecord) -> Kept[KeyRecord]:
        """Keep a new key with the limits and names of `record`; raises `AlreadyThere`."""
        record = self._named(record, secret)
        await self._point(record.digest, record.id)
        try:
            await self.records.enlist(record.id, record.alias or "")
        except AlreadyThere:
            await self._unpoint(record.digest)
            raise
        made = await self.records.write_new(record)
        await self._confirm(record.digest)
        return made

    async def change(self, key_id: str, edited: Edit, *, alias: str = "") -> Kept[KeyRecord]:
        """Write what `edited` makes of the record; `alias` is the one it gets, if it gets one."""
        return (await self._changed(key_id, edited, alias))[1]

    async def rotate(
        self, key_id: str, secret: str, edited: Edit, *, alias: str = ""
    ) -> Kept[KeyRecord]:
        """Put `secret` in the place of the key with this id; change the rest as `change` does."""
        digest = self._named((await self.records.get(key_id)).record, secret).digest
        await self._point(digest, key_id)

        def renewed(record: KeyRecord, now_s: float) -> KeyRecord:
            return self._named(edited(record, now_s), secret)

        before, after = await self._changed(key_id, renewed, alias)
        await self._confirm(digest)
        await self._unpoint(before.digest)
        return after

    async def delete(self, key_id: str) -> bool:
        """Delete a key, also what is left of one; say whether there was anything."""
        found = await self.records.find(key_id)
        if found is None and not await self.records.is_listed(key_id):
            return False
        if found is not None:
            await self._unpoint(found.record.digest)
            await self.records.free_alias(key_id, found.record.alias or "")
            await self.records.remove(key_id)
        await self.records.delist(key_id)
        return True

    async def id_of(self, named: str) -> str | None:
        """Find the id of the key that is, or has the digest, `named`; an id is its own.

        What may be a key is only ever looked for by its digest.
        """
        if credentials.is_id(named):
            return named
        is_key = credentials.is_key(named, self._prefixes)
        digests = self._secrets.digests(named.encode()) if is_key else []
        if credentials.is_digest(named):
            digests.append(named)
        for digest in digests:
            key_id = await self._led_to(digest)
            if key_id is not None:
                return key_id
        return None

    async def _changed(
        self, key_id: str, edited: Edit, alias: str
    ) -> tuple[KeyRecord, Kept[KeyRecord]]:
        await self.records.get(key_id)
        if alias:
            await self.records.enlist(key_id, alias)
        before, after = await self.records.change(key_id, edited)
        if before.alias and before.alias != after.record.alias:
            await self.records.free_alias(key_id, before.alias)
        return before, after

    async def _point(self, digest: str, key_id: str) -> None:
        if await self._led_to(digest) is not None:
            raise AlreadyThere("this very key exists already; bring another one", param="key")
        name = self._names.key_of(digest)
        await self._line.call_all([("SET", name, key_id, "EX", UNCONFIRMED_S)])

    async def _confirm(self, digest: str) -> None:
        await self._line.call_all([("PERSIST", self._names.key_of(digest))])

    async def _unpoint(self, digest: str) -> None:
        await self._line.call_all([("DEL", self._names.key_of(digest))])

    async def _led_to(self, digest: str) -> str | None:
        """Find the id of the key with this digest, whose record says so too."""
        (key_id,) = await self._line.call_all([("GET", self._names.key_of(digest))])
        found = None if key_id is None else await self.records.find(key_id.decode())
        return found.record.id if found is not None and found.record.digest == digest else None

    def _named(self, record: KeyRecord, secret: str) -> KeyRecord:
        return msgspec.structs.replace(
            record,
            digest=self._secrets.digest(secret.encode()),
            name=credentials.shown(secret, self._prefixes[0]),
        )
