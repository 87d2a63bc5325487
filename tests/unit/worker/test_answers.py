from __future__ import annotations

import base64
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import WrongAnswer
from embedpool_worker.providers.answers import dims_of, float32_bytes, placed

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)


@given(FLOATS)
def test_numbers_and_base64_give_the_same_bytes(numbers: list[float]) -> None:
    expected = struct.pack(f"<{len(numbers)}f", *numbers)

    assert float32_bytes(numbers) == expected
    assert float32_bytes(base64.b64encode(expected).decode()) == expected


@pytest.mark.parametrize("embedding", ["not base64!", "AAA", [1.0, None], ["1"], 5, None])
def test_an_embedding_that_is_neither_is_a_wrong_answer(embedding: object) -> None:
    with pytest.raises(WrongAnswer):
        float32_bytes(embedding)  # type: ignore[arg-type]


@given(st.permutations(range(8)))
def test_vectors_are_placed_by_index(order: list[int]) -> None:
    vectors = [bytes([index]) for index in order]

    assert placed(vectors, order, items=8) == [bytes([index]) for index in range(8)]


def test_without_any_index_the_order_stands() -> None:
    assert placed([b"a", b"b"], [None, None], items=2) == [b"a", b"b"]


@pytest.mark.parametrize(
    "indices",
    [[0, 0], [0, 2], [1, 2], [-1, 0], [0, None]],
    ids=["twice the same", "a gap", "starts at one", "negative", "one without"],
)
def test_indices_that_are_not_those_of_the_inputs_are_a_wrong_answer(
    indices: list[int | None],
) -> None:
    with pytest.raises(WrongAnswer):
        placed([b"a", b"b"], indices, items=2)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_vectors_is_a_wrong_answer(count: int) -> None:
    with pytest.raises(WrongAnswer):
        placed([b"a"] * count, list(range(count)), items=2)


@pytest.mark.parametrize(
    ("vectors", "wanted"),
    [
        ([], None),
        ([b""], None),
        ([b"\0" * 7], None),
        ([b"\0" * 8, b"\0" * 4], None),
        ([b"\0" * 8], 3),
        ([struct.pack("<2f", 1.0, float("nan"))], 2),
        ([struct.pack("<2f", float("-inf"), 1.0)], 2),
    ],
    ids=["none", "empty", "ragged", "different", "not as asked", "NaN", "infinite"],
)
def test_what_is_no_finite_float32_of_the_length_wanted_is_a_wrong_answer(
    vectors: list[bytes], wanted: int | None
) -> None:
    with pytest.raises(WrongAnswer):
        dims_of(vectors, wanted=wanted)


@given(st.binary(min_size=4, max_size=64).map(lambda raw: raw[: len(raw) // 4 * 4]))
def test_a_vector_is_taken_if_every_number_of_it_is_one(vector: bytes) -> None:
    numbers = struct.unpack(f"<{len(vector) // 4}f", vector)

    if all(map(math.isfinite, numbers)):
        assert dims_of([b"\0" * len(vector), vector], wanted=None) == len(numbers)
    else:
        with pytest.raises(WrongAnswer):
            dims_of([b"\0" * len(vector), vector], wanted=None)


@pytest.mark.parametrize("number", [3.4e38, -3.4e38, 1.7e38, 1e-45, -0.0])
def test_the_largest_and_the_smallest_numbers_are_numbers(number: float) -> None:
    assert dims_of([struct.pack("<2f", 1.0, number)], wanted=2) == 2


def test_the_dimensions_are_those_of_the_vectors() -> None:
    assert dims_of([struct.pack("<2f", 1.0, 2.0)] * 2, wanted=None) == 2
