"""Who holds a key: all lookups of a moment in three round trips, whatever their number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, ParamSpec

from embedpool_api.accounts.kept import time_of
from embedpool_shared.accounts import (
    RECORD,
    AccountKind,
    Identity,
    KeyRecord,
    SpendField,
    TeamRecord,
    UserRecord,
    account_name,
    record_of,
)
from embedpool_shared.errors import EmbedPoolError, InternalError, QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line

PATIENCE_S: Final = 0.9
"""For all round trips together: without Redis a caller is told within a second."""

P = ParamSpec("P")
Found = Identity | EmbedPoolError | None
Hashes = Mapping[str, Sequence[bytes | None]]
"""By an account's id: its record and its cost."""


@dataclass(frozen=True, slots=True)
class _Question:
    digests: Sequence[str]
    answer: asyncio.Future[Identity | None]


class Lookup:
    """Finds the holders of keys over one line; questions that wait are asked together."""

    def __init__(self, line: Line, names: Names) -> None:
        """Prepare; the first question connects."""
        self._line = line
        self._names = names
        self._waiting: list[_Question] = []
        self._asking: asyncio.Task[None] | None = None

    async def identity(self, digests: Sequence[str]) -> Identity | None:
        """Find who holds the key with one of these digests; None for nobody.

        Nobody holds a key whose team or user is gone.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Question(digests, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        found: Identity | None = await answer
        return found

    async def close(self) -> None:
        """Hang up; whoever still waits is told that Redis is not there."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        self._give_up(self._waiting)  # a task that never began settles nothing
        await self._line.close()

    async def _ask_all(self) -> None:
        asked: list[_Question] = []
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                for question, found in zip(asked, await self._answers(asked), strict=True):
                    _settle(question, found)
        finally:
            self._asking = None
            self._give_up([*asked, *self._waiting])

    def _give_up(self, questions: Sequence[_Question]) -> None:
        self._waiting = []
        for question in questions:
            _settle(question, QueueUnavailable("Redis was not asked", retry_after_s=1.0))

    async def _answers(self, asked: Sequence[_Question]) -> Sequence[Found]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._look(asked)
        except TimeoutError:
            error = QueueUnavailable("Redis does not answer in time", retry_after_s=1.0)
            return [error] * len(asked)
        except QueueUnavailable as error:
            return [error] * len(asked)

    async def _look(self, asked: Sequence[_Question]) -> list[Found]:
        digests = [digest for question in asked for digest in question.digests]
        now, *ids = await self._line.call_all(
            [("TIME",), *(("GET", self._names.key_of(digest)) for digest in digests)]
        )
        key_of = {d: i.decode() for d, i in zip(digests, ids, strict=True) if i is not None}
        keys = await self._hashes(AccountKind.KEY, key_of.values())
        held = [_found(_holder, question, key_of, keys) for question in asked]
        holders = [one for one in held if isinstance(one, Identity)]
        teams = await self._hashes(AccountKind.TEAM, (one.key.team_id for one in holders))
        users = await self._hashes(AccountKind.USER, (one.key.user_id for one in holders))
        read_at = time_of(now)
        return [
            _found(_whole, one, teams, users, read_at) if isinstance(one, Identity) else one
            for one in held
        ]

    async def _hashes(self, kind: AccountKind, ids: Iterable[str | None]) -> Hashes:
        listed = [account_id for account_id in dict.fromkeys(ids) if account_id is not None]
        if not listed:
            return {}
        names = [self._names.account(account_name(kind, one)).account for one in listed]
        reads = [("HMGET", name, RECORD, SpendField.COST.value) for name in names]
        return dict(zip(listed, await self._line.call_all(reads), strict=True))


def _holder(question: _Question, key_of: Mapping[str, str], keys: Hashes) -> Identity | None:
    """Find the key; what leads to it counts only if the key's record says so too."""
    for digest in question.digests:
        raw, cost = keys.get(key_of.get(digest, ""), (None, None))
        record = None if raw is None else record_of(KeyRecord, raw)
        if record is not None and record.digest == digest:
            return Identity(key=record, key_cost_pico_usd=int(cost or 0))
    return None


def _whole(held: Identity, teams: Hashes, users: Hashes, read_at: float) -> Identity | None:
    key = held.key
    team, _ = teams.get(key.team_id or "", (None, None))
    user, _ = users.get(key.user_id or "", (None, None))
    if (key.team_id is not None and team is None) or (key.user_id is not None and user is None):
        return None
    return Identity(
        key=key,
        team=None if team is None else record_of(TeamRecord, team),
        user=None if user is None else record_of(UserRecord, user),
        read_at=read_at,
        key_cost_pico_usd=held.key_cost_pico_usd,
    )


def _found(read: Callable[P, Identity | None], *of: P.args, **more: P.kwargs) -> Found:
    """A record that cannot be read is the affair of its key alone."""
    try:
        return read(*of, **more)
    except InternalError as error:
        return error


def _settle(question: _Question, found: Found) -> None:
    if question.answer.done():
        return  # whoever asked has gone
    if isinstance(found, EmbedPoolError):
        question.answer.set_exception(found)
    else:
        question.answer.set_result(found)
