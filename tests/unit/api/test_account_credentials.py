"""Keys cannot be guessed, and what is shown of one is not enough to use it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.accounts.credentials import (
    MIN_KEY_LETTERS,
    brought_key,
    is_digest,
    is_id,
    is_key,
    new_id,
    new_key,
    shown,
)
from embedpool_shared.errors import BadRequest
from embedpool_shared.sealing import Secrets

PREFIX = "sk-ep-"


def test_keys_have_32_random_bytes_and_differ() -> None:
    keys = {new_key(PREFIX) for _ in range(200)}

    assert len(keys) == 200
    assert all(len(key) - len(PREFIX) >= 43 and key.startswith(PREFIX) for key in keys)


def test_keys_ids_and_digests_are_told_apart() -> None:
    key, account_id = new_key(PREFIX), new_id()
    digest = Secrets("a secret of some length").digest(key.encode())

    assert [is_key(it, [PREFIX]) for it in (key, account_id, digest)] == [True, False, False]
    assert [is_id(it) for it in (key, account_id, digest)] == [False, True, False]
    assert [is_digest(it) for it in (key, account_id, digest)] == [False, False, True]


def test_an_id_is_too_short_to_be_a_key() -> None:
    assert len(new_id()) < MIN_KEY_LETTERS


def test_what_is_shown_lacks_nearly_all_of_the_key() -> None:
    key = new_key(PREFIX)

    assert shown(key, PREFIX) == f"{PREFIX}...{key[-4:]}"


@given(st.text(min_size=8, max_size=300).filter(lambda text: not text.startswith(PREFIX)))
def test_a_key_with_another_prefix_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        brought_key(text, PREFIX)

    assert refused.value.param == "key"
    assert text not in refused.value.message


@pytest.mark.parametrize("tail", ["", "short", "0" * 25, "0" * 25 + "é", "0" * 30 + " ", "0" * 300])
def test_a_key_that_is_short_or_strange_is_refused(tail: str) -> None:
    with pytest.raises(BadRequest, match="nobody can guess"):
        brought_key(PREFIX + tail, PREFIX)


@pytest.mark.parametrize("tail", ["0" * 26, "a.b_c~d-" * 4])
def test_a_long_key_with_our_prefix_is_taken(tail: str) -> None:
    assert brought_key(PREFIX + tail, PREFIX) == PREFIX + tail
