"""What crosses Redis is read back as it was written, by this version and by its neighbours."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared import errors
from embedpool_shared.errors import EmbedPoolError, InternalError, PoolError
from embedpool_shared.jobs import (
    WIRE_VERSION,
    CallTrace,
    Job,
    JobReply,
    LedgerRecord,
    MergeKey,
    Pack,
    Reply,
    WireError,
    WireVersionUnknown,
    encode,
    error_from,
    pack_from,
    records_from,
    reply_from,
    wire_error,
)

whole = st.integers(0, 2**53)
word = st.text(max_size=12)
finite = st.floats(allow_nan=False)
inputs = st.one_of(st.text(), st.lists(st.integers(0, 2**32)))
merges = st.builds(MergeKey, word, st.one_of(st.none(), whole), word, word, word)
jobs = st.builds(Job, whole, whole, st.lists(inputs, max_size=4), whole, whole, whole, word)
packs = st.builds(Pack, word, st.lists(merges, max_size=3), st.lists(jobs, max_size=4))
traces = st.builds(CallTrace, word, word, word, whole, whole, whole, finite)
wire_errors = st.builds(
    WireError, word, word, st.none() | word, st.none() | word, st.none() | finite
)
replies = st.builds(
    Reply,
    word,
    st.lists(
        st.builds(
            JobReply, whole, st.binary(), whole, whole, finite,
            st.none() | traces, st.none() | wire_errors,
        ),
        max_size=4,
    ),
)  # fmt: skip
records = st.lists(
    st.builds(LedgerRecord, word, whole, word, word, word, whole, whole, whole, whole, word),
    max_size=4,
)

KINDS = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, EmbedPoolError)
]


@given(packs)
def test_a_pack_is_read_as_it_was_written(pack: Pack) -> None:
    assert pack_from(encode(pack)) == pack


@given(replies)
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert reply_from(encode(reply)) == reply


@given(records)
def test_ledger_records_are_read_as_they_were_written(listed: list[LedgerRecord]) -> None:
    assert records_from(encode(listed)) == listed


@given(st.one_of(packs, replies, records))
def test_every_blob_starts_with_its_version(message: Any) -> None:
    assert encode(message)[0] == WIRE_VERSION


@pytest.mark.parametrize("read", [pack_from, reply_from, records_from])
def test_a_version_from_the_future_is_refused_with_advice(read: Any) -> None:
    blob = bytes([WIRE_VERSION + 1]) + encode(Pack("a", [], []))[1:]

    with pytest.raises(WireVersionUnknown, match=f"0{WIRE_VERSION + 1} is newer .* upgrade"):
        read(blob)


@pytest.mark.parametrize("read", [pack_from, reply_from, records_from])
def test_an_empty_blob_has_no_version(read: Any) -> None:
    with pytest.raises(WireVersionUnknown, match="missing"):
        read(b"")


@pytest.mark.parametrize("read", [pack_from, reply_from, records_from])
@pytest.mark.parametrize("rest", [b"", b"\xc1", b"\xa3abc"], ids=["nothing", "junk", "a string"])
def test_a_blob_that_is_none_of_ours_is_a_value_error(read: Any, rest: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(bytes([WIRE_VERSION]) + rest)


# Neighbouring versions


def blob_of(*arrays: Any) -> bytes:
    return bytes([WIRE_VERSION]) + msgspec.msgpack.encode(list(arrays))


def test_a_pack_of_an_older_version_is_read_with_defaults() -> None:
    blob = blob_of("api", [["m"]], [[3, 0, ["x"], 500, 1]])

    assert pack_from(blob) == Pack("api", [MergeKey("m")], [Job(3, 0, ["x"], 500, 1, 0, "")])


def test_a_reply_of_an_older_version_is_read_with_defaults() -> None:
    blob = blob_of("p", [[3, b"v", 1, 2]])

    assert reply_from(blob) == Reply("p", [JobReply(3, b"v", 1, 2, 0.0, None, None)])


def test_a_record_of_an_older_version_is_read_with_defaults() -> None:
    blob = blob_of(["p", 0, "a", "m", "openai", 1, 1, 0, 0])

    assert records_from(blob) == [LedgerRecord("p", 0, "a", "m", "openai", 1, 1, 0, 0, "")]


def test_the_tail_a_newer_process_added_is_ignored() -> None:
    merge = ["m", None, "", "", "", "new"]
    blob = blob_of(
        "api", [merge], [[3, 0, ["x"], 500, 1, 0, "", 0, None, b"", 3, "", "new", 7]], "new"
    )

    assert pack_from(blob) == Pack("api", [MergeKey("m")], [Job(3, 0, ["x"], 500, 1)])


# Errors


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_arrives_as_it_left(kind: type[EmbedPoolError]) -> None:
    sent = kind("what was wrong", param="input[3]", code="why", retry_after_s=1.5)

    blob = encode(Reply("p", [JobReply(0, b"", 0, 0, error=wire_error(sent))]))
    (reply,) = reply_from(blob).jobs

    assert reply.error is not None
    arrived = error_from(reply.error)
    assert type(arrived) is kind
    assert vars(arrived) == vars(sent)
    assert str(arrived) == "what was wrong"


@pytest.mark.parametrize(
    "kind", ["OfTheFuture", "annotations", "__doc__", "", "WireVersionUnknown"]
)
def test_an_error_nobody_here_knows_is_our_own(kind: str) -> None:
    arrived = error_from(WireError(kind, "words", code="c"))

    assert type(arrived) is InternalError
    assert (arrived.message, arrived.code) == ("words", "c")


def test_an_unknown_version_is_the_pools_problem() -> None:
    assert issubclass(WireVersionUnknown, PoolError)


# Merge keys


@given(merges, merges)
def test_merge_keys_are_equal_only_in_every_part(one: MergeKey, other: MergeKey) -> None:
    own, others = (msgspec.structs.astuple(key) for key in (one, other))

    assert (one == other) == (own == others)
    assert len({one, MergeKey(*own)}) == 1
