"""A batch goes on as long as its key, that key's team and its user may."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from embedpool_shared.accounts import KeyRecord, Limits, TeamRecord, UserRecord
from embedpool_shared.errors import (
    BudgetExceeded,
    EmbedPoolError,
    InternalError,
    InvalidApiKey,
    ModelNotAllowed,
)
from embedpool_worker.bulk.standing import Account, Holder, account, refusal

NOW = 1_000.0
USD = 10**12
GOOD_KEY = KeyRecord(id="k", digest="d", name="sk-…", team_id="t", user_id="u")
NAMES = ("text-embedding-3-small", "small")


def holder(
    *,
    spent: int = 0,
    team: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
    **key: Any,
) -> Holder:
    return Holder(
        key=Account(msgspec.structs.replace(GOOD_KEY, **key), spent),
        team=Account(TeamRecord(id="t", **(team or {})), spent),
        user=Account(UserRecord(id="u", **(user or {})), spent),
    )


def refused(of: Holder) -> EmbedPoolError:
    found = refusal(of, NAMES, now=NOW)
    assert found is not None
    return found


def test_a_key_in_good_standing_goes_on() -> None:
    limits = Limits(rpm=1, tpm=1, parallel=1, budget_pico_usd=2 * USD)
    good = holder(spent=2 * USD - 1, limits=limits, expires_at=NOW + 1, models=("small",))

    assert refusal(good, NAMES, now=NOW) is None


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (Holder(key=None), "deleted"),
        (holder(expires_at=NOW), "expired"),
        (holder(is_blocked=True), "it is blocked"),
        (holder(team={"is_blocked": True}), "its team is blocked"),
        (holder(user={"is_blocked": True}), "its user is blocked"),
        (Holder(key=Account(GOOD_KEY, 0), user=holder().user), "its team was deleted"),
        (Holder(key=Account(GOOD_KEY, 0), team=holder().team), "its user was deleted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_that_may_not_call_any_more_may_not_go_on(of: Holder, words: str) -> None:
    found = refused(of)

    assert isinstance(found, InvalidApiKey)
    assert words in found.message


def test_a_key_without_a_team_and_a_user_needs_none() -> None:
    key = msgspec.structs.replace(GOOD_KEY, team_id=None, user_id=None)

    assert refusal(Holder(key=Account(key, 0)), NAMES, now=NOW) is None


@pytest.mark.parametrize(
    "of",
    [
        holder(models=("other",)),
        holder(team={"models": ("other",)}),
        holder(user={"models": ("cohere/*",)}),
        # No one name is granted by all of them.
        holder(models=("small",), team={"models": (NAMES[0],)}),
    ],
)
def test_a_model_that_was_withdrawn_is_not_gone_on_with(of: Holder) -> None:
    found = refused(of)

    assert isinstance(found, ModelNotAllowed)
    assert found.param == "model"


@pytest.mark.parametrize("models", [("small",), ("text-*",), ("*",), ()])
def test_a_model_is_granted_under_any_of_its_names(models: tuple[str, ...]) -> None:
    assert refusal(holder(models=models, team={"models": models}), NAMES, now=NOW) is None


@pytest.mark.parametrize("whose", ["key", "team", "user"])
def test_a_budget_that_is_used_up_ends_it(whose: str) -> None:
    limits = {"limits": Limits(budget_pico_usd=5 * USD // 2)}
    more: dict[str, Any] = limits if whose == "key" else {whose: limits}

    found = refused(holder(spent=5 * USD // 2, **more))

    assert isinstance(found, BudgetExceeded)
    assert found.message == f"Budget used up for {whose}: $2.5"
    assert found.code == "budget_exceeded"


def test_a_budget_of_nothing_is_used_up_at_once() -> None:
    assert isinstance(refused(holder(limits=Limits(budget_pico_usd=0))), BudgetExceeded)


@pytest.mark.parametrize(
    ("every", "reset_at", "cost", "spent"),
    [
        (None, None, b"7", 7),
        (b"60", b"1001", b"7", 7),
        (b"60", b"1000", b"7", 0),
        (b"month", b"900", b"7", 0),
        (b"60", None, b"7", 7),
        (None, b"900", b"7", 7),
        (b"60", b"1001", None, 0),
    ],
)
def test_what_was_spent_in_a_period_that_is_over_does_not_count(
    every: bytes | None, reset_at: bytes | None, cost: bytes | None, spent: int
) -> None:
    record = msgspec.json.encode(GOOD_KEY)

    found = account(KeyRecord, [record, every, reset_at, cost], now=NOW)

    assert found == Account(GOOD_KEY, spent)


def test_an_account_without_a_record_is_none() -> None:
    assert account(KeyRecord, [None, None, None, b"7"], now=NOW) is None


def test_a_record_that_cannot_be_read_says_so() -> None:
    with pytest.raises(InternalError):
        account(KeyRecord, [b"odd", None, None, None], now=NOW)
