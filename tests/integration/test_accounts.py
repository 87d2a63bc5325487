"""Keys, teams and users in Redis: who holds a key, and what a crash leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from redis.crc import key_slot

from embedpool_api.accounts.records import AlreadyThere
from embedpool_shared.accounts import KeyRecord, Limits, TeamRecord, UserRecord
from embedpool_shared.errors import BadRequest, InternalError, NotFound, QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.sealing import Secrets
from integration.accounts_by_hand import PREFIX, Books, books
from support.valkey import RedisServer

OLD = "an older secret, long enough too"
BROUGHT = f"{PREFIX}brought-from-elsewhere-0123456789"


def same(record: Any, _: float) -> Any:
    return record


def hashes(valkey: RedisServer, name: str) -> dict[str, str]:
    with valkey.client() as client:
        found: Any = client.hgetall(name)
    return {key.decode(): value.decode() for key, value in found.items()}


def everything(valkey: RedisServer) -> bytes:
    """All that Redis holds, names and values."""
    with valkey.client() as client:
        names: Any = client.keys("*")
        return b"\n".join([*names, *(client.dump(name) or b"" for name in names)])


async def test_a_key_leads_to_its_record_its_team_and_its_user(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        await it.accounts.teams.create(TeamRecord(id="t", limits=Limits(rpm=5)))
        await it.accounts.users.create(UserRecord(id="u", email="u@example.org"))
        key = await it.make(team_id="t", user_id="u", alias="mine", models=("m",))
        with valkey.client() as client:
            key_id = await it.id_of(key)
            client.hset(Names().account(f"key:{key_id}").account, "cost", 17)

        found = await it.holder(key)

        assert found is not None
        assert (found.key.alias, found.key.models, found.key_cost_pico_usd) == ("mine", ("m",), 17)
        assert found.team is not None
        assert found.user is not None
        assert (found.team.limits.rpm, found.user.email) == (5, "u@example.org")
        assert found.read_at >= found.key.created_at > 1_700_000_000


async def test_nobody_holds_an_unknown_key_and_a_digest_opens_nothing(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        key = await it.make()
        digest = it.secrets.digest(key.encode())

        assert await it.holder(f"{key}x") is None
        assert await it.holder(digest) is None
        assert await it.holder(await it.id_of(key)) is None


async def test_a_key_itself_is_nowhere_in_redis(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        key = await it.make(BROUGHT, alias="mine")
        await it.keys.rotate(await it.id_of(key), new := it.keys.secret(), same)
        await it.keys.id_of(new)

        held = everything(valkey)

        assert new.encode() not in held
        assert BROUGHT.encode() not in held


async def test_keys_made_under_an_older_secret_still_work(valkey: RedisServer) -> None:
    async with books(valkey.url, secrets=Secrets(OLD)) as before:
        key = await before.make()

    async with books(valkey.url, secrets=Secrets("the new secret, long enough", [OLD])) as it:
        found = await it.holder(key)
        assert found is not None
        await it.keys.rotate(found.key.id, new := it.keys.secret(), same)

        assert await it.holder(key) is None
        assert await it.id_of(new) == found.key.id


async def test_a_deleted_key_is_nobodys_at_once_and_leaves_its_alias_free(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        key = await it.make(alias="mine")
        key_id = await it.id_of(key)

        assert await it.keys.delete(key_id)

        assert await it.holder(key) is None
        assert not await it.keys.delete(key_id)
        assert await it.make(alias="mine")
        with valkey.client() as client:
            assert not client.exists(it.names.account(f"key:{key_id}").account)


async def test_of_a_key_that_spent_nothing_nothing_is_left(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        key_id = await it.id_of(await it.make(alias="mine", limits=Limits(budget_every="60")))
        await it.keys.rotate(key_id, it.keys.secret(), same)

        await it.keys.delete(key_id)

        with valkey.client() as client:
            assert client.keys("*") == []


async def test_what_a_deleted_key_spent_is_kept_for_a_while_and_bounds_nobody(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        limits = Limits(budget_pico_usd=5, budget_every="60")
        await it.accounts.teams.create(TeamRecord(id="t", limits=limits))
        account = it.names.account("team:t").account
        with valkey.client() as client:
            client.hset(account, mapping={"cost": 3, "period_cost": 3, "lane:m": "1-1"})

            await it.accounts.delete_team("t")

            assert hashes(valkey, account) == {"cost": "3", "period_cost": "3", "lane:m": "1-1"}
            ttl: Any = client.ttl(account)
            assert 80_000 < ttl <= 86_400

            again = await it.accounts.teams.create(TeamRecord(id="t"))

            assert again.spent.cost_pico_usd == 0
            assert client.ttl(account) == -1
            assert hashes(valkey, account)["lane:m"] == "1-1"


async def test_a_rotated_key_keeps_its_id_and_its_old_secret_is_dead(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        key = await it.make(limits=Limits(rpm=3))
        before = await it.holder(key)
        assert before is not None

        new = it.keys.secret()
        after = await it.keys.rotate(before.key.id, new, same)

        assert await it.holder(key) is None
        found = await it.holder(new)
        assert found is not None
        assert found.key.id == before.key.id == after.record.id
        assert found.key.limits.rpm == 3
        assert found.key.name == f"{PREFIX}...{new[-4:]}"
        with valkey.client() as client:
            assert not client.exists(it.names.key_of(before.key.digest))
            assert client.ttl(it.names.key_of(found.key.digest)) == -1


@pytest.mark.parametrize("loses_reply", [False, True], ids=["before", "after"])
async def test_wherever_making_a_key_breaks_off_it_can_be_made_again(
    valkey: RedisServer, loses_reply: bool
) -> None:
    async with books(valkey.url) as it:
        line = it.lines["admin"]
        for at in range(1, 20):
            line.cut(at, loses_reply=loses_reply)
            try:
                await it.make(f"{BROUGHT}{at}")
            except QueueUnavailable:
                line.mend()
            else:
                break
            with valkey.client() as client:
                digest = it.secrets.digest(f"{BROUGHT}{at}".encode())
                ttl: Any = client.ttl(it.names.key_of(digest))
            if await it.holder(f"{BROUGHT}{at}") is None:
                # Nothing stands in the way of doing it again.
                await it.make(f"{BROUGHT}{at}")
            else:
                assert ttl > 0 or loses_reply
            assert await it.holder(f"{BROUGHT}{at}") is not None
        else:
            pytest.fail("making a key never ended")
        assert at > 5


@pytest.mark.parametrize("loses_reply", [False, True], ids=["before", "after"])
async def test_wherever_rotating_breaks_off_one_secret_works_and_never_two(
    valkey: RedisServer, loses_reply: bool
) -> None:
    async with books(valkey.url) as it:
        line = it.lines["admin"]
        for at in range(1, 20):
            key, new = await it.make(), it.keys.secret()
            key_id = await it.id_of(key)
            line.cut(at, loses_reply=loses_reply)
            try:
                await it.keys.rotate(key_id, new, same)
            except QueueUnavailable:
                line.mend()
            else:
                break
            working = [secret for secret in (key, new) if await it.holder(secret) is not None]
            assert len(working) == 1
            again = it.keys.secret()
            await it.keys.rotate(key_id, again, same)
            assert await it.id_of(again) == key_id
            assert await it.holder(working[0]) is None
        else:
            pytest.fail("rotating never ended")
        assert at > 5


@pytest.mark.parametrize("loses_reply", [False, True], ids=["before", "after"])
async def test_wherever_deleting_breaks_off_the_key_is_dead_or_untouched_and_goes_next_time(
    valkey: RedisServer, loses_reply: bool
) -> None:
    async with books(valkey.url) as it:
        line = it.lines["admin"]
        for at in range(1, 20):
            key = await it.make(alias="mine")
            key_id = await it.id_of(key)
            line.cut(at, loses_reply=loses_reply)
            try:
                await it.keys.delete(key_id)
            except QueueUnavailable:
                line.mend()
            else:
                break
            if await it.holder(key) is None:
                with valkey.client() as client:
                    assert client.zscore(it.names.accounts("key"), key_id) or loses_reply
            await it.keys.delete(key_id)
            assert await it.holder(key) is None
            assert await it.keys.records.with_alias("mine") is None
        else:
            pytest.fail("deleting never ended")
        assert at > 3


async def test_two_keys_never_share_an_alias(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        made = await asyncio.gather(
            *(it.make(alias="mine") for _ in range(8)), return_exceptions=True
        )

        refused = [one for one in made if isinstance(one, AlreadyThere)]
        assert len(refused) == 7
        assert refused[0].param == "key_alias"
        (key,) = (one for one in made if isinstance(one, str))
        assert (await it.keys.records.with_alias("mine")).record.id == await it.id_of(key)


async def test_a_claim_nothing_bears_out_counts_for_nothing_after_a_minute(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        now_s = int(await it.keys.records.now_s())
        with valkey.client() as client:
            client.hset(it.names.aliases("key"), "old", f"{now_s - 61} gone")
            client.hset(it.names.aliases("key"), "young", f"{now_s - 30} on its way")

        assert await it.make(alias="old")
        with pytest.raises(AlreadyThere):
            await it.make(alias="young")


async def test_a_changed_alias_is_free_for_others_and_a_kept_one_is_not(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        key_id = await it.id_of(await it.make(alias="one"))

        await it.keys.change(
            key_id, lambda key, _: msgspec.structs.replace(key, alias="two"), alias="two"
        )

        assert await it.make(alias="one")
        with pytest.raises(AlreadyThere):
            await it.make(alias="two")


async def test_changes_at_the_same_time_do_not_undo_each_other(valkey: RedisServer) -> None:
    async with books(valkey.url) as it, books(valkey.url) as other:
        key = await it.make()
        key_id = await it.id_of(key)

        await asyncio.gather(
            *(
                where.keys.change(
                    key_id,
                    lambda record, _, tag=f"{at}": msgspec.structs.replace(
                        record, tags=(*record.tags, tag)
                    ),
                )
                for at, where in enumerate([it, other] * 4)
            )
        )

        found = await it.holder(key)
        assert found is not None
        assert sorted(found.key.tags) == [str(at) for at in range(8)]


async def test_a_key_whose_team_or_user_is_gone_is_nobodys(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        await it.accounts.teams.create(TeamRecord(id="t"))
        await it.accounts.users.create(UserRecord(id="u"))
        of_team, of_user = await it.make(team_id="t"), await it.make(user_id="u")

        await it.accounts.teams.remove("t")
        await it.accounts.users.remove("u")

        assert await it.holder(of_team) is None
        assert await it.holder(of_user) is None


async def test_deleting_a_team_deletes_its_keys_and_no_others(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        await it.accounts.teams.create(TeamRecord(id="t"))
        theirs = [await it.make(team_id="t") for _ in range(3)]
        other = await it.make()

        assert await it.accounts.delete_team("t")

        await it.accounts.teams.create(TeamRecord(id="t"))
        assert [await it.holder(key) for key in theirs] == [None] * 3
        assert await it.holder(other) is not None
        assert not await it.accounts.delete_user("nobody")


async def test_a_user_nobody_has_heard_of_is_made_and_a_team_is_not(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        await it.accounts.belong(KeyRecord(id="k", digest="", name="", user_id="new"))
        with pytest.raises(BadRequest, match="/team/new") as refused:
            await it.accounts.belong(KeyRecord(id="k", digest="", name="", team_id="new"))

        assert refused.value.param == "team_id"
        assert (await it.accounts.users.get("new")).record.id == "new"


async def test_a_team_cannot_be_made_twice_and_an_unknown_one_not_changed(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        await it.accounts.teams.create(TeamRecord(id="t", alias="first"))

        with pytest.raises(AlreadyThere):
            await it.accounts.teams.create(TeamRecord(id="t", alias="second"))
        with pytest.raises(NotFound, match="'x'"):
            await it.accounts.teams.change("x", same)

        assert (await it.accounts.teams.get("t")).record.alias == "first"


async def test_a_budgets_period_begins_when_it_is_set_and_ends_when_it_is_taken_away(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        teams, account = it.accounts.teams, it.names.account("team:t").account

        def every(text: str | None) -> Any:
            return lambda team, _: msgspec.structs.replace(team, limits=Limits(budget_every=text))

        made = await teams.create(TeamRecord(id="t", limits=Limits(budget_every="3600")))
        assert made.reset_at is not None
        assert 3_590 < made.reset_at - made.read_at <= 3_600
        with valkey.client() as client:
            client.hset(account, "reset_at", made.reset_at - 5)
        _, same_again = await teams.change("t", every("3600"))
        assert same_again.reset_at == made.reset_at - 5
        _, monthly = await teams.change("t", every("month"))
        assert hashes(valkey, account)["every"] == "month"
        assert monthly.reset_at is not None
        assert monthly.reset_at % 86_400 == 0
        _, never = await teams.change("t", every(None))
        assert never.reset_at is None
        assert "every" not in hashes(valkey, account)


async def test_five_hundred_lookups_take_three_round_trips(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        await it.accounts.teams.create(TeamRecord(id="t"))
        key = await it.make(team_id="t")
        await it.holder(key)
        line = it.lines["accounts"]
        line.cut(0, loses_reply=False)

        found = await asyncio.gather(
            *(it.holder(key) for _ in range(250)), *(it.holder(f"{key}{at}") for at in range(250))
        )

        assert line.exchanges == 3
        assert sum(one is not None for one in found) == 250


async def test_a_record_nobody_can_read_is_the_affair_of_its_key_alone(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        bad, good = await it.make(), await it.make()
        with valkey.client() as client:
            digest = it.secrets.digest(bad.encode())
            key_id: Any = client.get(it.names.key_of(digest))
            client.hset(it.names.account(f"key:{key_id.decode()}").account, "record", "{")

        broken, whole = await asyncio.gather(
            it.holder(bad), it.holder(good), return_exceptions=True
        )

        assert isinstance(broken, InternalError)
        assert not isinstance(whole, BaseException)
        assert whole is not None


async def test_lookups_end_within_a_second_when_redis_is_silent_and_work_again_after(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        key = await it.make()
        loop = asyncio.get_running_loop()
        valkey.pause()
        started = loop.time()

        with pytest.raises(QueueUnavailable):
            await it.holder(key)

        assert loop.time() - started < 1.5
        valkey.resume()
        assert await it.holder(key) is not None


async def test_lookups_do_not_wait_for_an_administrator(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        key = await it.make()

        async with it.accounts.admin_line._turn:
            assert await it.holder(key) is not None


async def test_an_administrator_is_told_in_time_that_redis_is_away(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        valkey.pause()

        made = await asyncio.gather(*(it.make() for _ in range(5)), return_exceptions=True)

        assert all(isinstance(one, QueueUnavailable) for one in made)
        valkey.resume()


async def test_keys_can_be_blocked_and_deleted_at_the_memory_limit(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        key, other = await it.make(alias="a"), await it.make(alias="b")
        key_id, other_id = await it.id_of(key), await it.id_of(other)
        with valkey.client() as client:
            client.config_set("maxmemory", "1mb")
            try:
                with pytest.raises(QueueUnavailable):
                    await it.make()
                await it.keys.change(
                    key_id, lambda record, _: msgspec.structs.replace(record, is_blocked=True)
                )
                assert await it.keys.delete(other_id)
            finally:
                client.config_set("maxmemory", "0")

        blocked = await it.holder(key)
        assert blocked is not None
        assert blocked.key.is_blocked
        assert await it.holder(other) is None


async def test_a_page_shows_the_youngest_first_and_says_how_many_there_are(
    valkey: RedisServer,
) -> None:
    async with books(valkey.url) as it:
        ids = [await it.id_of(await it.make(user_id=None, tags=(f"{at % 2}",))) for at in range(7)]
        with valkey.client() as client:
            client.zadd(it.names.accounts("key"), {ids[0]: 99_999_999_999})

        def odd(key: KeyRecord) -> bool:
            return key.tags == ("1",)

        page = await it.accounts.listing.page(it.keys.records, odd, number=2, size=2)

        assert page.total == 3
        assert [one.record.id for one in page.rows] == [ids[1]]
        whole = await it.accounts.listing.page(it.keys.records, lambda _: True, number=1, size=100)
        assert [one.record.id for one in whole.rows] == ids[::-1]


async def test_what_is_long_gone_leaves_the_list_when_it_is_read(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        index = it.names.accounts("key")
        now_s = await it.keys.records.now_s()
        with valkey.client() as client:
            client.zadd(index, {"gone": now_s - 90_000, "just gone": now_s})

            page = await it.accounts.listing.page(
                it.keys.records, lambda _: True, number=1, size=10
            )

            assert page.total == 0
            assert client.zrange(index, 0, -1) == [b"just gone"]


async def test_a_key_is_found_by_itself_its_digest_and_its_id(valkey: RedisServer) -> None:
    async with books(valkey.url) as it:
        key = await it.make()
        key_id = await it.id_of(key)

        assert await it.keys.id_of(key) == key_id
        assert await it.keys.id_of(it.secrets.digest(key.encode())) == key_id
        assert await it.keys.id_of(key_id) == key_id
        assert await it.keys.id_of("sk-somebody-elses-key-0123456789abcdef") is None


async def test_the_list_and_the_aliases_share_a_slot() -> None:
    names = Names()

    assert names.aliases("key") == "ep:{accounts}:key:alias"
    assert key_slot(names.accounts("key").encode()) == key_slot(names.aliases("key").encode())


async def test_closing_tells_those_who_wait(valkey: RedisServer) -> None:
    it = Books(valkey.url)
    valkey.pause()
    waiting = asyncio.create_task(it.holder("sk-ep-x"))
    await asyncio.sleep(0)

    await it.accounts.close()

    with pytest.raises(QueueUnavailable):
        await waiting
    valkey.resume()
