"""The fake provider's vectors are what a test may rely on."""

from __future__ import annotations

from binascii import a2b_base64

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from support.vectors import base64_of, floats_of, token_count, vector_of

items = st.text(min_size=1) | st.lists(st.integers(0, 100_000), min_size=1)
dims = st.integers(1, 200)


@given(items, dims)
def test_a_vector_is_finite_and_of_its_length(item: str | list[int], size: int) -> None:
    vector = np.frombuffer(vector_of(item, size, "m"), "<f4")

    assert vector.shape == (size,)
    assert np.isfinite(vector).all()
    assert size == 1 or len(set(vector.tolist())) > 1


@given(items, dims)
def test_both_encodings_say_the_same(item: str | list[int], size: int) -> None:
    vector = vector_of(item, size, "m")

    assert a2b_base64(orjson.loads(base64_of(item, size, "m"))) == vector
    assert np.array(orjson.loads(floats_of(item, size, "m")), "<f4").tobytes() == vector


@given(st.tuples(items, dims, st.sampled_from("ab")), st.tuples(items, dims, st.sampled_from("ab")))
def test_other_items_dimensions_or_models_have_other_vectors(
    one: tuple[str | list[int], int, str], other: tuple[str | list[int], int, str]
) -> None:
    assert (vector_of(*one) == vector_of(*other)) == (one == other) or min(one[1], other[1]) < 3


def test_a_slice_at_a_wrong_place_shows() -> None:
    both = vector_of("a", 36) + vector_of("b", 36)

    right = {vector_of("a", 36), vector_of("b", 36)}

    assert [start for start in range(4 * 36 + 1) if both[start : start + 4 * 36] in right] == [
        0,
        4 * 36,
    ]


def test_a_vector_is_about_one_long() -> None:
    norms = [np.linalg.norm(np.frombuffer(vector_of(f"{n}", 1_536), "<f4")) for n in range(200)]

    assert 0.9 < float(np.mean(norms)) < 1.1


def test_tokens_are_a_quarter_of_the_bytes() -> None:
    assert [token_count(item) for item in ("a", "abcd", "abcde", "日本", [7, 8, 9])] == [
        1,
        1,
        2,
        2,
        3,
    ]
