"""Vectors keep every bit on their way through bytes, base64 and JSON."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared import vectors

finite = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=64)


@given(finite)
def test_base64_equals_numpys_own_bytes(floats: list[float]) -> None:
    vector = vectors.bytes_of_floats(floats)

    encoded = vectors.base64_of(vector)

    assert encoded == base64.b64encode(np.array(floats, dtype="<f4").tobytes())
    assert vectors.bytes_of_base64(encoded) == vector


@given(finite)
def test_json_floats_read_back_to_the_same_bits(floats: list[float]) -> None:
    vector = vectors.bytes_of_floats(floats)

    read = json.loads(vectors.json_floats(vector))

    assert vectors.bytes_of_floats(read) == vector


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e39])
def test_one_number_that_is_none_is_noticed(bad: float) -> None:
    assert vectors.is_finite(vectors.bytes_of_floats([0.0, 1.0]))
    assert not vectors.is_finite(vectors.bytes_of_floats([0.0, bad, 1.0]))


@given(st.lists(st.binary(min_size=8, max_size=8), max_size=9))
def test_each_vector_is_seen_once_and_in_order(parts: list[bytes]) -> None:
    assert [bytes(part) for part in vectors.each(b"".join(parts), 2)] == parts


@pytest.mark.parametrize("text", ["%%%", "AAA", "AAAA"], ids=["letters", "padding", "3 bytes"])
def test_what_is_no_vector_in_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        vectors.bytes_of_base64(text)
