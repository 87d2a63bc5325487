"""Callers with a provider's key of their own."""

from __future__ import annotations

from typing import Any

import pytest

from embedpool_api.callers import Caller
from embedpool_api.own_keys import own_key_holders, site_of
from embedpool_shared.accounts import Limits
from embedpool_shared.config.settings import AuthSettings
from embedpool_shared.errors import ConfigInvalid
from unit.api.identities import SECRETS

THEIRS = b"sk-proj-canary_of-a.providers/key+1="
ADDRESS = "203.0.113.7"


def holder(credential: bytes = THEIRS, address: str = ADDRESS, **auth: Any) -> Caller | None:
    holders = own_key_holders(AuthSettings(allow_passthrough_keys=True, **auth), SECRETS)
    assert holders is not None
    return holders(credential, address)


def certain(found: Caller | None) -> Caller:
    assert found is not None
    return found


def test_the_holder_is_known_by_the_digest_of_the_key_and_nothing_of_it_is_shown() -> None:
    caller = certain(holder())
    digest = SECRETS.digest(THEIRS)

    assert caller.account == f"passthrough:{digest[:16]}"
    assert caller.scope == f"passthrough:{digest}"
    assert caller.credential == THEIRS
    assert not caller.is_admin
    assert "canary" not in repr(caller)


def test_two_keys_are_two_callers_that_share_no_call() -> None:
    one, other = certain(holder()), certain(holder(THEIRS[:-2] + b"2="))

    assert one.account != other.account
    assert one.scope != other.scope


def test_all_such_callers_are_limited_together_and_each_address_alone() -> None:
    limited = certain(holder(passthrough_rpm=50, passthrough_rpm_per_address=5)).limited

    [(everybody, together), (address, alone)] = limited
    assert everybody == "passthrough:all"
    assert (together, alone) == (Limits(rpm=50), Limits(rpm=5))
    assert address.startswith("address:")
    assert len(address) == len("address:") + 16
    assert ADDRESS not in address


def test_another_key_from_the_same_address_meets_the_same_limits() -> None:
    one, other = certain(holder()), certain(holder(b"another"))
    elsewhere = certain(holder(address="203.0.113.8"))

    assert one.limited == other.limited
    assert one.limited[0] == elsewhere.limited[0]
    assert one.limited[1] != elsewhere.limited[1]


@pytest.mark.parametrize(
    "credential",
    [
        b"sk-ep-canary",
        b"gr-canary",
        b"sk-ep-",
        b'"sk-ep-canary"',
        b"'gr-canary'",
        b"Bearer sk-ep-canary",
        b"<sk-ep-canary>",
    ],
)
def test_a_key_that_begins_as_ours_do_is_never_passed_through(credential: bytes) -> None:
    assert holder(credential, accepted_prefixes=("gr-",)) is None


@pytest.mark.parametrize(
    "credential", [b"a b", b"a\r\nx-evil: 1", b"a\x00", b"\xff\xfe", b"a,b", b"=", b"a=b"]
)
def test_what_no_bearer_token_can_be_is_not_passed_through(credential: bytes) -> None:
    assert holder(credential) is None


def test_where_such_keys_are_not_allowed_there_is_nobody_to_describe_them() -> None:
    assert own_key_holders(AuthSettings(), SECRETS) is None


def test_without_a_secret_they_cannot_be_allowed() -> None:
    with pytest.raises(ConfigInvalid, match="EMBEDPOOL_SECRET"):
        own_key_holders(AuthSettings(allow_passthrough_keys=True), None)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_an_address_counts_for_its_site(address: str, site: str) -> None:
    assert site_of(address) == site
