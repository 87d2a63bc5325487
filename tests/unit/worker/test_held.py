"""A delivered entry is read as what its worker has to answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.jobs import (
    WIRE_VERSION,
    Input,
    LaneClass,
    MergeKey,
    Pack,
    WireVersionUnknown,
    encode,
)
from embedpool_worker.held import (
    estimated_tokens,
    held_pack,
    input_size_bytes,
    items_of,
    requests_in,
)
from support.held import job_of, pack_of

MERGES = [MergeKey("m"), MergeKey("m", 64)]
PACK = Pack(
    "api-7",
    MERGES,
    [
        job_of(["a", "bb"], number=0, merge=0, budget_s=5.0),
        job_of(["c"], number=1, merge=1, budget_s=60.0),
        job_of([[1, 2, 3]], number=4, merge=0, budget_s=0.25),
    ],
)


def fields(**changed: bytes) -> dict[bytes, bytes]:
    entry = {"id": b"pack-1", "p": encode(PACK), "n": b"", "d": b"0"} | changed
    return {name.encode(): value for name, value in entry.items()}


def test_a_pack_is_held_with_all_its_jobs() -> None:
    pack = held_pack(LaneClass.BULK, b"17-3", fields(), arrived_at=100.0)

    assert (pack.entry_id, pack.pack_id, pack.api) == ("17-3", "pack-1", "api-7")
    assert pack.lane_class is LaneClass.BULK
    assert pack.numbers == (0, 1, 4)
    assert list(pack.open) == [0, 1, 4]
    assert (pack.arrived_at, pack.checked_at) == (100.0, 100.0)
    assert not any([pack.was_split, pack.is_lost, pack.is_begun])


def test_a_job_knows_its_merge_key_its_deadline_and_what_is_missing() -> None:
    pack = held_pack(LaneClass.INTERACTIVE, b"1-0", fields(), arrived_at=100.0)

    assert [job.merge for job in pack.open.values()] == [MERGES[0], MERGES[1], MERGES[0]]
    assert [job.deadline_at for job in pack.open.values()] == [105.0, 160.0, 100.25]
    assert [job.missing for job in pack.open.values()] == [2, 1, 1]
    assert pack.open[0].vectors == [None, None]
    assert all(job.pack is pack for job in pack.open.values())


@pytest.mark.parametrize(
    ("listed", "kept"),
    [(b"", (0, 1, 4)), (b"4", (4,)), (b"1,4", (1, 4)), (b"3", ()), (b"0,10", (0,))],
)
def test_an_entry_put_back_holds_only_the_numbers_it_lists(
    listed: bytes, kept: tuple[int, ...]
) -> None:
    pack = held_pack(LaneClass.INTERACTIVE, b"1-0", fields(n=listed), arrived_at=0.0)

    assert pack.numbers == kept
    assert tuple(pack.open) == kept


def test_deliveries_of_the_entry_and_before_it_add_up() -> None:
    pack = held_pack(
        LaneClass.INTERACTIVE, b"1-0", fields(d=b"2"), arrived_at=0.0, earlier_deliveries=1
    )

    assert pack.deliveries == 3


@pytest.mark.parametrize(
    ("blob", "error"),
    [
        (bytes([WIRE_VERSION + 1]) + encode(PACK)[1:], WireVersionUnknown),
        (encode(PACK)[:-3], ValueError),
        (b"", WireVersionUnknown),
    ],
    ids=["from the future", "cut off", "nothing"],
)
def test_a_foreign_blob_is_refused(blob: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        held_pack(LaneClass.INTERACTIVE, b"1-0", fields(p=blob), arrived_at=0.0)


# items


@given(st.text())
def test_a_text_is_measured_in_utf8(text: str) -> None:
    assert input_size_bytes(text) == len(text.encode())


@given(st.one_of(st.text(), st.lists(st.integers(0, 100_000))))
def test_an_estimate_is_never_below_a_token_for_three_bytes(given_: Input) -> None:
    size_bytes = input_size_bytes(given_)
    tokens = estimated_tokens(given_, size_bytes)

    if isinstance(given_, str):
        assert 3 * (tokens - 1) < size_bytes <= 3 * tokens
    else:
        assert (tokens, size_bytes) == (len(given_), 4 * len(given_))


def test_a_job_is_listed_item_by_item_in_order() -> None:
    job = pack_of(["one", "three", [7, 8]]).open[0]

    items = items_of(job)

    assert [item.position for item in items] == [0, 1, 2]
    assert [item.input for item in items] == ["one", "three", [7, 8]]
    assert [item.size_bytes for item in items] == [3, 5, 8]
    assert [item.tokens for item in items] == [1, 2, 2]


@pytest.mark.parametrize(
    ("inputs", "counted", "tokens"),
    [(["one word"], 2, [2]), (["one word"], 0, [3]), (["one word", "two"], 3, [3, 1])],
    ids=["a single item counted", "not counted", "only the sum is known"],
)
def test_the_apis_count_replaces_the_estimate_of_a_single_item(
    inputs: list[Input], counted: int, tokens: list[int]
) -> None:
    job = pack_of(inputs).open[0]
    job.job.tokens = counted

    assert [item.tokens for item in items_of(job)] == tokens


def test_requests_are_counted_and_not_items() -> None:
    first, second = pack_of(["a", "b"], ["c"]).open.values()

    assert requests_in([*items_of(first), *items_of(second)]) == 2
    assert requests_in([]) == 0
