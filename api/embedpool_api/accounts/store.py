"""Accounts in Redis: who holds a key, and everything an administrator does to keys, teams, users.

Two connections: an administrator's long list never holds up a caller whose key is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from embedpool_api.accounts.kept import Kept
from embedpool_api.accounts.keys import Keys
from embedpool_api.accounts.listing import Listing
from embedpool_api.accounts.lookup import Lookup
from embedpool_api.accounts.records import AlreadyThere, Records
from embedpool_api.accounts.shared_line import SharedLine
from embedpool_shared.accounts import AccountKind, Identity, KeyRecord, TeamRecord, UserRecord
from embedpool_shared.errors import BadRequest

if TYPE_CHECKING:
    from embedpool_shared.names import Names
    from embedpool_shared.redis import Line
    from embedpool_shared.sealing import Secrets

LOOKUP_ROLE: Final = "accounts"
ADMIN_ROLE: Final = "admin"


class Accounts:
    """All keys, teams and users, and what was spent for them and others."""

    def __init__(
        self,
        line: Callable[[str], Line],
        names: Names,
        secrets: Secrets,
        *,
        prefixes: Sequence[str],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """New keys begin with the first of `prefixes`; `changed` is called after every change."""
        self.admin_line = SharedLine(line(ADMIN_ROLE))
        self.names = names
        self.listing = Listing(self.admin_line, names)
        self.teams = Records(self.admin_line, names, AccountKind.TEAM, TeamRecord)
        self.users = Records(self.admin_line, names, AccountKind.USER, UserRecord)
        key_records = Records(self.admin_line, names, AccountKind.KEY, KeyRecord)
        self.keys = Keys(self.admin_line, names, key_records, secrets, prefixes)
        self.changed = changed
        self._lookup = Lookup(line(LOOKUP_ROLE), names)

    async def identity(self, digests: Sequence[str]) -> Identity | None:
        """Find who holds the key with one of these digests, the first that anybody holds.

        Raises `QueueUnavailable` within a second when Redis is away.
        """
        return await self._lookup.identity(digests)

    async def close(self) -> None:
        """Hang up."""
        await self._lookup.close()
        await self.admin_line.close()

    async def belong(self, record: KeyRecord) -> None:
        """See to it that a key's team and user exist: a user is made, a team is asked for.

        Raises `BadRequest` for a team that does not exist.
        """
        if record.team_id is not None and await self.teams.find(record.team_id) is None:
            raise BadRequest(
                f"there is no team {record.team_id!r}; make it with /team/new", param="team_id"
            )
        if record.user_id is not None and await self.users.find(record.user_id) is None:
            try:
                await self.users.create(UserRecord(id=record.user_id))
            except AlreadyThere:
                return  # somebody else's key made it meanwhile

    async def keys_of(self, wanted: Callable[[KeyRecord], bool]) -> list[Kept[KeyRecord]]:
        """List the keys wanted."""
        return [key async for key in self.listing.each(self.keys.records, wanted)]

    async def delete_team(self, team_id: str) -> bool:
        """Delete a team and its keys; say whether there was one."""
        return await self._delete_with_keys(self.teams, team_id, lambda key: key.team_id == team_id)

    async def delete_user(self, user_id: str) -> bool:
        """Delete a user and the keys of it; say whether there was one."""
        return await self._delete_with_keys(self.users, user_id, lambda key: key.user_id == user_id)

    async def _delete_with_keys(
        self,
        records: Records[TeamRecord] | Records[UserRecord],
        account_id: str,
        theirs: Callable[[KeyRecord], bool],
    ) -> bool:
        """Delete the keys first: a key made meanwhile is nobody's, and what is left can be seen."""
        if await records.find(account_id) is None and not await records.is_listed(account_id):
            return False
        for key in await self.keys_of(theirs):
            await self.keys.delete(key.record.id)
        await records.remove(account_id)
        await records.delist(account_id)
        return True
