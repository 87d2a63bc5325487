"""Who is let in, by what they send, and what they may do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from embedpool_api.callers import (
    ANYBODY,
    MASTER,
    Caller,
    Gate,
    key_holder,
    require_admin,
    require_own,
)
from embedpool_api.identities import Identities
from embedpool_api.own_keys import own_key_holders
from embedpool_shared.accounts import Identity, Limits
from embedpool_shared.config.settings import AuthSettings
from embedpool_shared.errors import InvalidApiKey, QueueUnavailable, RouteNotAllowed
from embedpool_shared.jobs import LaneClass
from unit.api.identities import OUR_KEY, SECRETS, FakeAccounts, identity

KEY = "sk-a-long-and-random-master-key"
HOME = {b"host": b"localhost:4000"}
THEIRS = b"sk-proj-canary-of-a-provider"


def bearer(key: bytes) -> dict[bytes, bytes]:
    return HOME | {b"authorization": b"Bearer " + key}


def caller(gate: Gate, headers: dict[bytes, bytes]) -> Caller:
    return asyncio.run(gate.identify(headers))


def gate(
    accounts: FakeAccounts | None = None,
    *,
    master_key: str | None = KEY,
    share_across: str = "all",
    **auth: Any,
) -> Gate:
    """Make a gate as the api does."""
    return Gate(
        master_key,
        find=Identities((accounts or FakeAccounts()).identity, SECRETS).find,
        own_key_holder=own_key_holders(AuthSettings(**auth), SECRETS),
        share_across=share_across,
    )


def knowing(found: Identity, credential: bytes = OUR_KEY) -> FakeAccounts:
    accounts = FakeAccounts()
    accounts.knows(credential, found)
    return accounts


# the master key, and none


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + KEY.encode()},
        {b"authorization": b"bearer   " + KEY.encode() + b" "},
        {b"api-key": KEY.encode()},
        {b"authorization": b"Bearer ", b"api-key": KEY.encode()},
    ],
)
def test_the_master_key_is_taken_from_either_header(headers: dict[bytes, bytes]) -> None:
    assert caller(Gate(KEY), headers) is MASTER


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer wrong"},
        {b"authorization": b"Bearer " + KEY[:-1].encode()},
        {b"authorization": b"Bearer " + KEY.encode() + b"x"},
        {b"authorization": b"Bearer " + b"x" * 10_000},
        {b"authorization": b"Bearer \xff\xfe"},
        {b"authorization": b"Basic " + KEY.encode()},
        {b"authorization": KEY.encode()},
        {b"api-key": b"wrong"},
    ],
)
@pytest.mark.parametrize("make", [Gate, lambda key: gate(master_key=key)])
def test_anything_else_is_an_invalid_key_whose_error_holds_no_key(
    make: Callable[[str], Gate], headers: dict[bytes, bytes]
) -> None:
    with pytest.raises(InvalidApiKey, match=r"^Invalid API key") as caught:
        caller(make(KEY), headers | HOME)

    assert KEY[:-1] not in caught.value.message
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_master_key_this_machine_is_let_in_whatever_bearer_it_sends(
    key: str | None,
) -> None:
    accounts = FakeAccounts()

    for headers in (HOME, bearer(b"anything"), bearer(OUR_KEY), bearer(b"\xff")):
        assert caller(gate(accounts, master_key=key), headers) is ANYBODY
    assert not ANYBODY.is_admin
    assert accounts.asked == []


@pytest.mark.parametrize("allowed", [False, True])
def test_without_a_master_key_strangers_are_refused_whatever_they_send(allowed: bool) -> None:
    strangers = gate(master_key=None, allow_passthrough_keys=allowed)

    for headers in ({b"host": b"evil.example"}, HOME | {b"x-forwarded-for": b"1.2.3.4"}):
        with pytest.raises(InvalidApiKey):
            caller(strangers, bearer(THEIRS) | headers)


def test_with_a_master_key_proxies_and_names_do_not_matter() -> None:
    headers = {b"host": b"api.example", b"x-forwarded-for": b"1.2.3.4", b"api-key": KEY.encode()}

    assert caller(Gate(KEY), headers) is MASTER


# virtual keys


def test_the_holder_of_a_virtual_key_is_let_in() -> None:
    found = identity()

    holder = caller(gate(knowing(found)), bearer(OUR_KEY))

    assert holder.account == "key:k"
    assert holder.identity is found
    assert not holder.is_admin
    assert holder.credential is None


@pytest.mark.parametrize("known", [identity(), identity(is_blocked=True), None])
def test_every_credential_is_looked_up_once_known_or_not(known: Identity | None) -> None:
    accounts = FakeAccounts() if known is None else knowing(known)

    with suppress(InvalidApiKey):
        caller(gate(accounts), bearer(OUR_KEY))

    assert len(accounts.asked) == 1


def test_of_an_unknown_key_it_is_said_in_the_documented_words() -> None:
    with pytest.raises(InvalidApiKey) as caught:
        caller(gate(), bearer(OUR_KEY))

    assert caught.value.message == "Invalid API key"


def test_when_nobody_can_say_whose_key_it_is_that_is_not_the_callers_fault() -> None:
    accounts = FakeAccounts()
    accounts.error = QueueUnavailable("Redis is away")

    for key in (OUR_KEY, THEIRS):
        with pytest.raises(QueueUnavailable):
            caller(gate(accounts, allow_passthrough_keys=True), bearer(key))
    assert caller(gate(accounts), bearer(KEY.encode())) is MASTER


def test_what_is_read_anew_of_a_key_describes_its_holder_anew() -> None:
    found = [identity(), identity(models=("a",))]

    async def find(_: bytes) -> Identity | None:
        return found[0]

    doorman = Gate(KEY, find=find)
    first, again = caller(doorman, bearer(OUR_KEY)), caller(doorman, bearer(OUR_KEY))
    found.pop(0)
    later = caller(doorman, bearer(OUR_KEY))

    assert first is again
    assert not later.may_use("b")


def test_of_a_holder_nothing_secret_is_shown() -> None:
    holder = caller(gate(knowing(identity(metadata={"note": "canary"}))), bearer(OUR_KEY))

    assert "canary" not in repr(holder)
    assert "canary" not in repr(gate())


# what a key, its team and its user say together


@pytest.mark.parametrize(
    ("key", "team", "user", "allowed"),
    [
        ((), (), (), {"a", "b", "c"}),
        (("a", "b"), (), (), {"a", "b"}),
        (("a", "b"), ("b", "c"), (), {"b"}),
        (("a", "b"), ("b", "c"), ("c",), set()),
        (("all-team-models",), ("b", "c"), (), {"b", "c"}),
        (("all-proxy-models",), (), ("*",), {"a", "b", "c"}),
    ],
)
def test_a_model_has_to_be_granted_by_every_list(
    key: tuple[str, ...], team: tuple[str, ...], user: tuple[str, ...], allowed: set[str]
) -> None:
    holder = key_holder(identity(models=key, team={"models": team}, user={"models": user}))

    assert {model for model in "abc" if holder.may_use(model)} == allowed


def test_everybody_without_a_list_may_use_everything() -> None:
    assert ANYBODY.may_use("anything")
    assert MASTER.may_use("anything")


@pytest.mark.parametrize(
    ("key", "team", "pool", "scope"),
    [
        (None, None, "all", ""),
        (None, None, "team", "team:t"),
        (None, None, "key", "key:k"),
        (None, "key", "all", "key:k"),
        (None, "all", "key", ""),
        ("team", "key", "all", "team:t"),
        ("all", "key", "key", ""),
    ],
)
def test_the_nearest_word_says_with_whom_texts_may_travel(
    key: str | None, team: str | None, pool: str, scope: str
) -> None:
    known = identity(share_across=key, team={"share_across": team})

    assert key_holder(known, share_across=pool).scope == scope


def test_a_key_without_a_team_is_a_team_of_its_own() -> None:
    assert key_holder(identity(), share_across="team").scope == "key:k"


@pytest.mark.parametrize("across", ["team", "key"])
def test_callers_without_a_virtual_key_are_kept_apart_like_everybody(across: str) -> None:
    open_gate = gate(master_key=None, share_across=across)
    locked = gate(share_across=across)

    assert caller(open_gate, HOME).scope == "caller:open"
    assert caller(locked, bearer(KEY.encode())).scope == "caller:master"


def test_a_key_brings_its_limits_its_payers_its_tags_and_its_class() -> None:
    holder = key_holder(
        identity(
            limits=Limits(rpm=1),
            default_class="bulk",
            tags=("a",),
            metadata={"cost": "centre"},
            team={"limits": Limits(tpm=2), "tags": ("b",)},
            user={},
        )
    )

    assert holder.limited == (("key:k", Limits(rpm=1)), ("team:t", Limits(tpm=2)))
    assert holder.payers == ("team:t", "user:u")
    assert holder.tags == ("a", "b")
    assert holder.metadata == {"cost": "centre"}
    assert holder.default_class is LaneClass.BULK
    assert key_holder(identity()).default_class is LaneClass.INTERACTIVE


# callers' own provider keys


@pytest.mark.parametrize("master_key", [None, KEY])
def test_a_key_that_nobody_knows_here_is_the_callers_own(master_key: str | None) -> None:
    accounts = FakeAccounts()

    found = caller(
        gate(accounts, master_key=master_key, allow_passthrough_keys=True), bearer(THEIRS)
    )

    assert found.credential == THEIRS
    assert len(accounts.asked) == 1


def test_unless_it_is_allowed_an_unknown_key_is_nobodys() -> None:
    with pytest.raises(InvalidApiKey):
        caller(gate(), bearer(THEIRS))


@pytest.mark.parametrize("master_key", [None, KEY])
def test_an_unknown_key_that_begins_as_ours_do_is_invalid_and_goes_nowhere(
    master_key: str | None,
) -> None:
    with pytest.raises(InvalidApiKey, match=r"^Invalid API key$"):
        caller(gate(master_key=master_key, allow_passthrough_keys=True), bearer(OUR_KEY))


def test_a_key_of_ours_that_is_not_good_any_more_is_not_taken_for_a_providers() -> None:
    taken_over = knowing(identity(expires_at=1.0), THEIRS)

    with pytest.raises(InvalidApiKey, match="expired"):
        caller(gate(taken_over, allow_passthrough_keys=True), bearer(THEIRS))


def test_without_a_bearer_an_open_pool_is_open_to_this_machine_still() -> None:
    doorman = gate(master_key=None, allow_passthrough_keys=True)

    assert caller(doorman, HOME) is ANYBODY
    assert caller(doorman, bearer(b"")) is ANYBODY


def test_the_master_key_is_never_passed_through() -> None:
    assert caller(gate(allow_passthrough_keys=True), bearer(KEY.encode())) is MASTER


def test_the_address_counts_for_a_callers_own_key() -> None:
    doorman = gate(allow_passthrough_keys=True)

    async def limits_at(address: str) -> object:
        return (await doorman.identify(bearer(THEIRS), address)).limited[1]

    async def both() -> tuple[object, object]:
        return await limits_at("10.0.0.1"), await limits_at("10.0.0.2")

    one, other = asyncio.run(both())
    assert one != other


# routes


def test_only_the_master_key_administers() -> None:
    require_admin(MASTER)
    for other in (ANYBODY, key_holder(identity()), Caller(account="p", credential=THEIRS)):
        with pytest.raises(RouteNotAllowed, match="master key"):
            require_admin(other)


def test_a_providers_own_key_may_embed_and_no_more() -> None:
    for other in (MASTER, ANYBODY, key_holder(identity())):
        require_own(other)
    with pytest.raises(RouteNotAllowed, match="embeddings") as caught:
        require_own(Caller(account="p", credential=THEIRS))
    assert "canary" not in caught.value.message
