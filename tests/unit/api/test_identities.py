"""Whose key it is, and for how long that is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from embedpool_api.identities import FRESH_S, KEPT_S, LOOKUP_PATIENCE_S, Identities
from embedpool_shared.accounts import Identity
from embedpool_shared.errors import InvalidApiKey, QueueUnavailable
from embedpool_shared.sealing import Secrets
from support.virtual_time import in_virtual_time
from unit.api.identities import OUR_KEY, SECRET, SECRETS, FakeAccounts, identity

Story = Callable[[FakeAccounts, Identities], Awaitable[None]]


def told(story: Story, *, known: Identity | None = None, **bounds: int) -> FakeAccounts:
    """Run `story` in virtual time; `known` is what is known of `OUR_KEY`."""
    accounts = FakeAccounts()
    if known is not None:
        accounts.knows(OUR_KEY, known)

    async def run() -> None:
        await story(accounts, Identities(accounts.identity, SECRETS, **bounds))

    in_virtual_time(run())
    return accounts


async def settled() -> None:
    """Let whatever runs in the background come to its end."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_known_key_is_found_and_an_unknown_one_is_not() -> None:
    async def story(_: FakeAccounts, identities: Identities) -> None:
        found = await identities.find(OUR_KEY)
        assert found is not None
        assert found.key.id == "k"
        assert await identities.find(b"sk-ep-another") is None

    told(story, known=identity())


def test_a_key_is_told_by_its_whole_digest_and_not_by_how_it_begins_or_ends() -> None:
    strangers = [OUR_KEY[:-1], OUR_KEY + b"x", OUR_KEY[:-1] + b"x", b"x" + OUR_KEY[1:]]

    async def story(_: FakeAccounts, identities: Identities) -> None:
        await identities.find(OUR_KEY)
        for stranger in strangers:
            assert await identities.find(stranger) is None

    accounts = told(story, known=identity())

    assert len({tuple(digests) for digests in accounts.asked}) == 1 + len(strangers)
    assert all(len(digest) == 64 for digests in accounts.asked for digest in digests)


def test_a_key_made_under_an_older_secret_is_asked_for_by_that_one_too() -> None:
    accounts = FakeAccounts({SECRETS.digest(OUR_KEY): identity()})
    identities = Identities(accounts.identity, Secrets("the-secret-after-it", [SECRET]))

    async def story() -> Identity | None:
        return await identities.find(OUR_KEY)

    assert in_virtual_time(story()) is not None
    assert len(accounts.asked[0]) == 2


def test_an_unknown_key_takes_the_same_path_as_a_known_one() -> None:
    async def asked_for(credential: bytes, identities: Identities) -> None:
        for _ in range(3):
            await identities.find(credential)
        await asyncio.sleep(FRESH_S)
        for _ in range(3):
            await identities.find(credential)
        await settled()

    async def known(_: FakeAccounts, identities: Identities) -> None:
        await asked_for(OUR_KEY, identities)

    async def unknown(_: FakeAccounts, identities: Identities) -> None:
        await asked_for(b"sk-ep-another", identities)

    counts = {len(told(story, known=identity()).asked) for story in (known, unknown)}

    assert counts == {2}


def test_whoever_asks_at_the_same_time_shares_one_lookup() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        accounts.takes_s = 0.1
        found = await asyncio.gather(*(identities.find(OUR_KEY) for _ in range(50)))
        assert all(one is found[0] for one in found)

    assert len(told(story, known=identity()).asked) == 1


def test_a_caller_that_hangs_up_takes_the_answer_from_nobody() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        accounts.takes_s = 0.1
        first = asyncio.create_task(identities.find(OUR_KEY))
        second = asyncio.create_task(identities.find(OUR_KEY))
        await asyncio.sleep(0.05)
        first.cancel()
        assert await second is not None

    assert len(told(story, known=identity()).asked) == 1


def test_a_key_in_use_never_waits_for_redis_again() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        await identities.find(OUR_KEY)
        accounts.takes_s = 0.5
        loop = asyncio.get_running_loop()
        for _ in range(100):
            await asyncio.sleep(0.1)
            before = loop.time()
            assert await identities.find(OUR_KEY) is not None
            assert loop.time() == before

    assert 5 <= len(told(story, known=identity()).asked) <= 11


def revoked(accounts: FakeAccounts) -> None:
    accounts.known.clear()


def blocked(accounts: FakeAccounts) -> None:
    accounts.knows(OUR_KEY, identity(is_blocked=True))


@pytest.mark.parametrize("change", [revoked, blocked])
@pytest.mark.parametrize("every_s", [0.05, 0.7, 1.5, KEPT_S])
def test_a_change_takes_effect_within_two_seconds_however_often_the_key_is_used(
    change: Callable[[FakeAccounts], None], every_s: float
) -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        loop = asyncio.get_running_loop()
        await identities.find(OUR_KEY)
        change(accounts)
        changed_at = loop.time()
        while await _is_good(identities):
            assert loop.time() - changed_at < KEPT_S
            await asyncio.sleep(every_s)

    told(story, known=identity())


def test_a_key_that_is_gone_is_remembered_as_gone() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        await identities.find(OUR_KEY)
        accounts.known.clear()
        await asyncio.sleep(KEPT_S)
        for _ in range(3):
            assert await identities.find(OUR_KEY) is None

    assert len(told(story, known=identity()).asked) == 2


def test_a_new_key_is_known_within_two_seconds_of_being_asked_for_in_vain() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        assert await identities.find(OUR_KEY) is None
        accounts.knows(OUR_KEY, identity())
        await asyncio.sleep(KEPT_S)
        assert await identities.find(OUR_KEY) is not None

    told(story)


def test_a_change_made_here_takes_effect_at_once() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        await identities.find(OUR_KEY)
        accounts.known.clear()
        identities.forget()
        assert await identities.find(OUR_KEY) is None

    told(story, known=identity())


def test_what_was_asked_before_a_change_is_not_kept_after_it() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        accounts.takes_s = 0.1
        early = asyncio.create_task(identities.find(OUR_KEY))
        await asyncio.sleep(0.05)
        accounts.known.clear()
        identities.forget()
        await early
        assert await identities.find(OUR_KEY) is None

    told(story, known=identity())


def test_while_redis_is_away_a_key_is_believed_for_two_seconds_and_then_nobody_can_say() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        await identities.find(OUR_KEY)
        accounts.error = QueueUnavailable("Redis is away")
        await asyncio.sleep(KEPT_S - 0.1)
        assert await identities.find(OUR_KEY) is not None
        await asyncio.sleep(0.1)
        with pytest.raises(QueueUnavailable):
            await identities.find(OUR_KEY)
        with pytest.raises(QueueUnavailable):
            await identities.find(b"sk-ep-another")
        accounts.error = None
        assert await identities.find(OUR_KEY) is not None

    told(story, known=identity())


def test_a_redis_that_says_nothing_is_not_waited_for() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        accounts.takes_s = 3_600
        began_at = asyncio.get_running_loop().time()
        with pytest.raises(QueueUnavailable):
            await identities.find(OUR_KEY)
        assert asyncio.get_running_loop().time() - began_at == pytest.approx(LOOKUP_PATIENCE_S)

    told(story, known=identity())


def test_unknown_keys_are_bounded_and_push_no_known_one_out() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        await identities.find(OUR_KEY)
        for n in range(20):
            await identities.find(b"sk-ep-stranger-%d" % n)
        asked = len(accounts.asked)
        await identities.find(OUR_KEY)
        await identities.find(b"sk-ep-stranger-19")
        assert len(accounts.asked) == asked
        await identities.find(b"sk-ep-stranger-0")
        assert len(accounts.asked) == asked + 1

    told(story, known=identity(), max_known=1, max_unknown=5)


def test_of_the_known_keys_the_one_used_least_lately_is_given_up_first() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        for n in range(3):
            accounts.knows(b"key-%d" % n, identity(id=str(n)))
        for n in (0, 1, 0, 2):
            await identities.find(b"key-%d" % n)
        asked = len(accounts.asked)
        await identities.find(b"key-0")
        await identities.find(b"key-2")
        assert len(accounts.asked) == asked
        await identities.find(b"key-1")
        assert len(accounts.asked) == asked + 1

    told(story, max_known=2)


@pytest.mark.parametrize(
    ("is_good_for_s", "waits_s", "is_good"),
    [(0.0, 0.0, False), (-5.0, 0.0, False), (0.5, 0.4, True), (0.5, 0.5, False)],
)
def test_a_key_expires_by_redis_clock_also_while_it_is_remembered(
    is_good_for_s: float, waits_s: float, is_good: bool
) -> None:
    # Read at 1,000 s of Redis' clock; the loop's own starts at 0.
    known = identity(expires_at=1_000.0 + is_good_for_s)

    async def story(_: FakeAccounts, identities: Identities) -> None:
        if waits_s:
            assert await _is_good(identities)
        await asyncio.sleep(waits_s)
        assert await _is_good(identities) is is_good

    told(story, known=known)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        pytest.param({"expires_at": 999.0}, "expired", id="expired"),
        pytest.param({"is_blocked": True}, "it is blocked", id="blocked"),
        pytest.param({"team": {"is_blocked": True}}, "its team is blocked", id="a blocked team"),
        pytest.param({"user": {"is_blocked": True}}, "its user is blocked", id="a blocked user"),
    ],
)
def test_a_key_that_is_not_good_any_more_is_invalid_and_not_unknown(
    known: dict[str, Any], why: str
) -> None:
    async def story(_: FakeAccounts, identities: Identities) -> None:
        with pytest.raises(InvalidApiKey, match=rf"^Invalid API key: .*{why}") as caught:
            await identities.find(OUR_KEY)
        assert OUR_KEY.decode() not in caught.value.message

    told(story, known=identity(**known))


def test_a_bug_behind_a_key_in_use_is_logged_and_names_no_credential(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        await identities.find(OUR_KEY)
        accounts.error = ValueError("a bug")
        await asyncio.sleep(FRESH_S)
        assert await identities.find(OUR_KEY) is not None
        await settled()

    told(story, known=identity())

    assert "identity_lookup_failed" in caplog.text
    assert "canary" not in caplog.text


def test_nothing_that_is_kept_shows_a_credential() -> None:
    async def story(accounts: FakeAccounts, identities: Identities) -> None:
        accounts.takes_s = 0.1
        finding = asyncio.create_task(identities.find(OUR_KEY))
        await asyncio.sleep(0.05)
        shown = repr(vars(identities)) + repr(asyncio.all_tasks())
        await finding
        shown += repr(vars(identities)) + repr(vars(identities._known))
        assert "canary" not in shown

    told(story, known=identity())


async def _is_good(identities: Identities) -> bool:
    try:
        return await identities.find(OUR_KEY) is not None
    except InvalidApiKey:
        return False
