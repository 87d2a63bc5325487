"""What a cached vector is found by, and that it reads back as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.jobs import Input, MergeKey
from embedpool_worker.cached_vectors import (
    MAX_SPACES,
    CachedVector,
    Spaces,
    agreeing,
    cached_from,
    content_of,
    dims_of,
    written,
)
from embedpool_worker.deployments import Deployment
from support.lane_bench import deployment

vectors = st.binary(min_size=4, max_size=64).map(lambda blob: blob[: len(blob) // 4 * 4])
inputs = st.one_of(st.text(max_size=20), st.lists(st.integers(0, 2**31), min_size=1, max_size=5))


@given(vectors, st.integers(0, 2**32 - 1), st.text(max_size=30))
def test_a_value_reads_back(vector: bytes, tokens: int, model: str) -> None:
    cached = CachedVector(vector, tokens, model)

    assert cached_from(written(cached)) == cached


@pytest.mark.parametrize(
    "blob",
    [
        None,
        b"",
        b"\x01",
        written(CachedVector(b"", 1, "m")),
        written(CachedVector(b"12345", 1, "m")),
        b"\x02" + written(CachedVector(b"1234", 1, "m"))[1:],
        written(CachedVector(b"1234", 1, "m"))[:9],
    ],
    ids=["none", "empty", "cut", "no vector", "no whole float32", "from the future", "cut later"],
)
def test_what_cannot_be_read_is_a_miss(blob: bytes | None) -> None:
    assert cached_from(blob) is None


@given(st.lists(inputs, min_size=2, max_size=6))
def test_different_inputs_are_different_content(listed: list[Input]) -> None:
    space = Spaces().of(MergeKey("m"), [deployment()])

    contents = {content_of(space, given) for given in listed}

    assert len(contents) == len({repr(given) for given in listed})


@pytest.mark.parametrize(
    ("merge", "place"),
    [
        (MergeKey("n"), deployment()),
        (MergeKey("m", 64), deployment()),
        (MergeKey("m", params='{"input_type":"query"}'), deployment()),
        (MergeKey("m", scope="team:a"), deployment()),
        (MergeKey("m"), deployment(upstream_model="other")),
        (MergeKey("m"), deployment(provider="azure")),
        (MergeKey("m"), deployment(api_base="http://elsewhere")),
        (MergeKey("m"), deployment(default_dimensions=128)),
    ],
    ids=["model", "dimensions", "parameters", "scope", "upstream", "provider", "address", "size"],
)
def test_whatever_decides_a_vector_is_part_of_its_name(merge: MergeKey, place: Deployment) -> None:
    usual = Spaces().of(MergeKey("m"), [deployment()])

    assert Spaces().of(merge, [place]) != usual


def test_keys_caps_and_order_of_deployments_change_no_name() -> None:
    one, other = deployment("a", id_="one"), deployment("b", id_="two", max_items=3)

    assert Spaces().of(MergeKey("m"), [one, other]) == Spaces().of(MergeKey("m"), [other])


def test_spaces_are_forgotten_before_they_are_too_many() -> None:
    spaces = Spaces()
    for n in range(MAX_SPACES + 1):
        spaces.of(MergeKey(f"m{n}"), [deployment()])

    assert spaces.of(MergeKey("m0"), [deployment()]) == Spaces().of(MergeKey("m0"), [deployment()])


def test_vectors_of_two_lengths_or_of_the_wrong_one_do_not_agree() -> None:
    short, long = CachedVector(b"1234", 1, "m"), CachedVector(b"12345678", 1, "m")

    assert agreeing([short, short], None)
    assert agreeing([short], 1)
    assert not agreeing([short], 2)
    assert not agreeing([short, long], None)
    assert not agreeing([], None)


@pytest.mark.parametrize(
    ("merge", "places", "dims"),
    [
        (MergeKey("m", 64), [deployment(native_dimensions=256)], 64),
        (MergeKey("m"), [deployment(native_dimensions=256)], 256),
        (MergeKey("m"), [deployment(native_dimensions=256, default_dimensions=128)], 128),
        (MergeKey("m"), [deployment()], None),
        (MergeKey("m"), [deployment(native_dimensions=256), deployment()], None),
    ],
)
def test_the_right_length_is_known_where_all_deployments_agree(
    merge: MergeKey, places: list[Deployment], dims: int | None
) -> None:
    assert dims_of(merge, places) == dims
