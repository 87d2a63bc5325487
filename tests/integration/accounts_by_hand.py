"""Accounts on a real server, over lines that a test may cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from typing_extensions import override

from embedpool_api.accounts.credentials import new_id
from embedpool_api.accounts.store import Accounts
from embedpool_shared.accounts import Identity, KeyRecord
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from embedpool_shared.scripts import Script
from embedpool_shared.sealing import Secrets

SECRETS: Final = Secrets("a secret that is long enough")
PREFIX: Final = "sk-ep-"
CUT: Final = QueueUnavailable("cut by the test", retry_after_s=1.0)


class Cuttable(Line):
    """A line that fails at its n-th exchange, before or after Redis did what it was told."""

    fails_at: int | None = None
    loses_reply = False
    exchanges = 0

    @override
    async def call_all(self, commands: Sequence[tuple[Any, ...]], **options: Any) -> list[Any]:
        self._begin()
        replies = await super().call_all(commands, **options)
        self._end()
        return replies

    @override
    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], **options: Any
    ) -> Any:
        self._begin()
        reply = await super().run(script, keys, arguments, **options)
        self._end()
        return reply

    def cut(self, at: int, *, loses_reply: bool) -> None:
        self.exchanges, self.fails_at, self.loses_reply = 0, at, loses_reply

    def mend(self) -> None:
        self.fails_at = None

    def _begin(self) -> None:
        self.exchanges += 1
        if self.exchanges == self.fails_at and not self.loses_reply:
            raise CUT

    def _end(self) -> None:
        if self.exchanges == self.fails_at:
            raise CUT


@dataclass
class Books:
    """The accounts, and how a test looks at them."""

    url: str
    secrets: Secrets = SECRETS
    lines: dict[str, Cuttable] = field(default_factory=dict)
    changes: int = 0

    def __post_init__(self) -> None:
        self.names = Names()
        self.accounts = Accounts(
            self._line, self.names, self.secrets, prefixes=(PREFIX,), changed=self._changed
        )

    @property
    def keys(self) -> Any:
        return self.accounts.keys

    async def make(self, secret: str | None = None, **fields: Any) -> str:
        """Make a key and return it."""
        key = self.accounts.keys.secret(secret)
        record = KeyRecord(id=fields.pop("id", None) or new_id(), digest="", name="", **fields)
        await self.accounts.keys.create(key, record)
        return key

    async def holder(self, key: str) -> Identity | None:
        return await self.accounts.identity(self.secrets.digests(key.encode()))

    async def id_of(self, key: str) -> str:
        found = await self.holder(key)
        assert found is not None
        return found.key.id

    def _line(self, role: str) -> Cuttable:
        pool = connection_pool(RedisAddress(self.url), client_name=f"test:{role}")
        self.lines[role] = Cuttable(pool)
        return self.lines[role]

    def _changed(self) -> None:
        self.changes += 1


@asynccontextmanager
async def books(url: str, **options: Any) -> AsyncIterator[Books]:
    """Open the accounts for a test."""
    opened = Books(url, **options)
    try:
        yield opened
    finally:
        await opened.accounts.close()
