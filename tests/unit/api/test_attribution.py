"""Whom a request is charged to beside its caller, and what is remembered of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.attribution import HEADERS, NOTHING, Attribution, attribution
from embedpool_api.callers import ANYBODY, Caller, key_holder
from embedpool_shared.embedding.request import EmbeddingRequest
from embedpool_shared.errors import BadRequest
from unit.api.identities import identity

SLACK = {b"x-litellm-user-id": b"someone"}


def attributed(
    headers: dict[bytes, bytes] | None = None, *, caller: Caller = ANYBODY, **body: Any
) -> Attribution:
    return attribution(headers or {}, EmbeddingRequest(model="m", inputs=["a"], **body), caller)


def test_a_request_that_says_nothing_costs_nothing() -> None:
    assert attributed({b"host": b"localhost", b"user-agent": b"x"}) is NOTHING


@pytest.mark.parametrize(
    "header", ["x-litellm-user-id", "x-litellm-end-user-id", "x-litellm-customer-id"]
)
def test_each_header_names_the_end_user(header: str) -> None:
    assert attributed({header.encode(): b" user-123 "}).accounts == ("end_user:user-123",)


def test_an_end_user_is_nobody_whose_budget_could_be_used() -> None:
    forged = attributed({b"x-litellm-user-id": b"u"}, caller=key_holder(identity(user={})))

    assert forged.accounts == ("user:u", "end_user:u")


def test_the_body_names_the_end_user_before_any_header() -> None:
    assert attributed(SLACK, user="me").accounts == ("end_user:me",)
    assert attributed(SLACK, user="").accounts == ("end_user:someone",)
    assert attributed({b"x-litellm-user-id": b" "}).accounts == ()


def test_metadata_is_joined_and_the_nearest_word_counts() -> None:
    caller = key_holder(identity(metadata={"a": "key", "b": "key", "c": "key", "d": "key"}))
    headers = {
        b"x-litellm-spend-logs-metadata": b'{"b": "log", "c": "log"}',
        b"x-litellm-metadata": b'{"a": "header", "b": "header", "c": "header"}',
    }

    found = attributed(headers, caller=caller, metadata={"c": "body"}).metadata

    assert orjson.loads(found) == {"a": "header", "b": "log", "c": "body", "d": "key"}


def test_equal_metadata_is_spelt_equally() -> None:
    one = attributed(metadata={"b": 1, "a": 2}).metadata

    assert one == attributed({b"x-litellm-metadata": b'{"a": 2,\n "b": 1}'}).metadata
    assert one == '{"a":2,"b":1}'


def test_tags_of_the_key_its_team_the_header_and_the_body_are_charged_once_each() -> None:
    caller = key_holder(identity(tags=("key", "both"), team={"tags": ("team",)}))

    found = attributed({b"x-litellm-tags": b" header ,both,, "}, caller=caller, tags=("body",))

    assert found.accounts == (
        "team:t", "tag:key", "tag:both", "tag:team", "tag:header", "tag:body",
    )  # fmt: skip


def test_a_key_with_a_team_is_charged_together_with_it_without_a_word() -> None:
    caller = key_holder(identity(team={}, user={}))

    assert attributed(caller=caller) == Attribution(("team:t", "user:u"))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-litellm-metadata", b"{"),
        ("x-litellm-metadata", b"[1]"),
        ("x-litellm-metadata", b'"text"'),
        ("x-litellm-metadata", b"\xff"),
        ("x-litellm-metadata", b'{"a": "%s"}' % (b"x" * 4_096)),
        ("x-litellm-metadata", b'{"a":' * 40 + b"1" + b"}" * 40),
        ("x-litellm-metadata", b'{"a": "os.environ/SECRET"}'),
        ("x-litellm-spend-logs-metadata", b"nonsense"),
        ("x-litellm-tags", b",".join(b"t%d" % n for n in range(21))),
        ("x-litellm-tags", b"x" * 4_097),
        ("x-litellm-tags", b"x" * 129),
        ("x-litellm-tags", b"a\tb"),
        ("x-litellm-user-id", b"x" * 257),
        ("x-litellm-end-user-id", b"a\x1bb"),
        ("x-litellm-customer-id", b"x" * 5_000),
    ],
)
def test_what_cannot_be_meant_is_refused_and_the_header_named(header: str, value: bytes) -> None:
    with pytest.raises(BadRequest, match=header) as caught:
        attributed({header.encode(): value})

    assert caught.value.param is not None
    assert caught.value.param.startswith(header)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"user": "x" * 257}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"tags": ("x" * 129,)}, "tags"),
        ({"tags": tuple(map(str, range(21)))}, "tags"),
    ],
)
def test_a_field_of_the_body_that_cannot_name_an_account_is_named(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        attributed(**body)

    assert caught.value.param == param


def test_twenty_tags_are_allowed_and_the_same_one_twice_is_one() -> None:
    header = {b"x-litellm-tags": b",".join(b"t%d" % n for n in range(20))}

    assert len(attributed(header, tags=("t1", "t2")).accounts) == 20


def test_letters_beyond_ascii_are_read_as_clients_write_them() -> None:
    assert attributed({b"x-litellm-user-id": "Jürgen".encode()}).accounts == ("end_user:Jürgen",)
    latin = {b"x-litellm-user-id": "Jürgen".encode("latin-1")}
    assert attributed(latin).accounts == ("end_user:Jürgen",)


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.binary(max_size=64)))
def test_whatever_the_headers_hold_it_is_an_account_an_object_or_a_refusal(
    headers: dict[bytes, bytes],
) -> None:
    try:
        found = attributed(headers)
    except BadRequest:
        return

    assert all(name.startswith(("end_user:", "tag:")) for name in found.accounts)
    assert type(orjson.loads(found.metadata or "{}")) is dict
