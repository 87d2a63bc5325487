"""Files and batches are the team's, else the key's; the master key's reach is everything."""

from __future__ import annotations

import pytest

from embedpool_api.bulk.ownership import lists_of, may_touch, no_batch, no_file, owner
from embedpool_api.callers import ANYBODY, MASTER, Caller, key_holder
from embedpool_shared.accounts import Identity, KeyRecord, TeamRecord

ALICE = KeyRecord(id="alice", digest="d", name="n")
LONE = key_holder(Identity(key=ALICE))
IN_TEAM = key_holder(
    Identity(
        key=KeyRecord(id="bob", digest="d", name="n", team_id="t", user_id="u"),
        team=TeamRecord(id="t"),
    )
)


@pytest.mark.parametrize(
    ("caller", "owned_by"),
    [
        pytest.param(LONE, "key:alice", id="a key"),
        pytest.param(IN_TEAM, "team:t", id="a key of a team"),
        pytest.param(MASTER, "caller:master", id="the master key"),
        pytest.param(ANYBODY, "caller:open", id="open mode"),
    ],
)
def test_everybody_owns_what_they_make(caller: Caller, owned_by: str) -> None:
    assert owner(caller) == owned_by
    assert may_touch(caller, owned_by)


def test_only_the_master_key_reaches_beyond_its_own() -> None:
    assert not may_touch(LONE, "team:t")
    assert not may_touch(ANYBODY, "caller:master")
    assert may_touch(MASTER, "team:t")
    assert lists_of(MASTER) is None
    assert lists_of(IN_TEAM) == "team:t"


def test_a_refusal_says_no_more_than_what_was_asked() -> None:
    assert "file-x" in no_file("file-x").message
    assert no_file("f", param="input_file_id").param == "input_file_id"
    assert len(no_batch("b" * 10_000).message) < 200
