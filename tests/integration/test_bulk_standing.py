"""Whether a batch may go on, as Redis has its key, that key's team and user, and their spend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from embedpool_shared.accounts import (
    RECORD,
    AccountKind,
    Limits,
    PeriodField,
    TeamRecord,
    UserRecord,
    account_name,
)
from embedpool_shared.errors import (
    BudgetExceeded,
    EmbedPoolError,
    InternalError,
    InvalidApiKey,
    ModelNotAllowed,
    QueueUnavailable,
)
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from embedpool_shared.scripts import script
from embedpool_worker.bulk.standing import Standing
from integration.accounts_by_hand import Books, books
from support.valkey import RedisServer

BUDGET = Limits(budget_pico_usd=100, budget_every="3600")


@dataclass
class Case:
    """The key `k` of the team `t` and the user `u`, and what is asked of it."""

    books: Books
    line: Line
    standing: Standing

    async def refusal(self, *models: str, key_id: str | None = "k") -> EmbedPoolError | None:
        return await self.standing.refusal(key_id, models or ("m",))

    async def spend(self, cost: int, account: str) -> None:
        """Let the roll-up add it up."""
        names = Names().account(account)
        sums = ["m", f"1-{cost}", 1, cost, 1, 1, 0, 0, 0, 0]
        await self.line.run(script("apply"), [names.account, names.window, names.held], sums)

    async def set_field(self, kind: AccountKind, of: str, field: str, value: Any) -> None:
        await self.line.call("HSET", Names().account(account_name(kind, of)).account, field, value)

    async def change(self, records: Any, of: str, **fields: Any) -> None:
        await records.change(of, lambda record, _: msgspec.structs.replace(record, **fields))


@asynccontextmanager
async def case(valkey: RedisServer, **key: Any) -> AsyncIterator[Case]:
    line = Line(connection_pool(RedisAddress(valkey.url), client_name="test:standing"))
    async with books(valkey.url) as opened:
        await opened.accounts.teams.create(TeamRecord(id="t", limits=BUDGET))
        await opened.accounts.users.create(UserRecord(id="u"))
        await opened.make(**({"id": "k", "team_id": "t", "user_id": "u"} | key))
        try:
            yield Case(opened, line, Standing(line, Names()))
        finally:
            await line.close()


async def test_a_batch_goes_on_until_its_key_is_blocked_and_again_afterwards(
    valkey: RedisServer,
) -> None:
    async with case(valkey) as asked:
        keys = asked.books.accounts.keys.records
        answers = [await asked.refusal()]
        for is_blocked in (True, False):
            await asked.change(keys, "k", is_blocked=is_blocked)
            answers.append(await asked.refusal())

    assert [type(answer) for answer in answers] == [type(None), InvalidApiKey, type(None)]


@pytest.mark.parametrize("kind", ["key", "team", "user"])
async def test_a_batch_ends_with_its_key_its_team_and_its_user(
    valkey: RedisServer, kind: str
) -> None:
    async with case(valkey) as asked:
        accounts = asked.books.accounts
        records: Any = {
            "key": accounts.keys.records,
            "team": accounts.teams,
            "user": accounts.users,
        }[kind]
        await records.remove(kind[0])

        answer = await asked.refusal()

    assert isinstance(answer, InvalidApiKey)
    assert "deleted" in answer.message


async def test_a_key_expires_by_the_clock_of_redis(valkey: RedisServer) -> None:
    async with case(valkey) as asked:
        records = asked.books.accounts.keys.records
        now_s = await records.now_s()
        await asked.change(records, "k", expires_at=now_s + 3_600)
        before = await asked.refusal()
        await asked.change(records, "k", expires_at=now_s)

        after = await asked.refusal()

    assert before is None
    assert isinstance(after, InvalidApiKey)


async def test_a_model_that_was_withdrawn_from_the_team_ends_it(valkey: RedisServer) -> None:
    async with case(valkey) as asked:
        await asked.change(asked.books.accounts.teams, "t", models=("other",))

        assert isinstance(await asked.refusal("m"), ModelNotAllowed)
        assert await asked.refusal("m", "other") is None


async def test_what_the_roll_up_adds_uses_a_budget_up_until_its_next_period(
    valkey: RedisServer,
) -> None:
    async with case(valkey) as asked:
        await asked.spend(50, "team:t")
        before = await asked.refusal()
        await asked.spend(51, "team:t")
        used_up = await asked.refusal()
        await asked.set_field(AccountKind.TEAM, "t", PeriodField.RESET_AT, 1)

        after = await asked.refusal()

    assert before is None
    assert isinstance(used_up, BudgetExceeded)
    assert "team" in used_up.message
    assert after is None


async def test_a_key_of_nobody_and_a_batch_without_a_key_go_on(valkey: RedisServer) -> None:
    async with case(valkey, team_id=None, user_id=None) as asked:
        assert await asked.refusal() is None
        assert await asked.refusal(key_id=None) is None


async def test_a_record_that_cannot_be_read_is_said_and_does_not_raise(valkey: RedisServer) -> None:
    async with case(valkey) as asked:
        await asked.set_field(AccountKind.TEAM, "t", RECORD, "odd")

        assert isinstance(await asked.refusal(), InternalError)


async def test_with_redis_away_nobody_can_say(valkey: RedisServer) -> None:
    async with case(valkey) as asked:
        valkey.kill()
        try:
            with pytest.raises(QueueUnavailable):
                await asked.refusal()
        finally:
            valkey.start()
