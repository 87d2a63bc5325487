"""A request cut into jobs is still that request."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.cutting import MAX_JOB_BYTES, cut
from embedpool_shared.embedding.inputs import size_bytes
from embedpool_shared.jobs import MAX_JOB_ITEMS, Input

texts = st.builds(lambda letter, n: letter * n, st.sampled_from("aé"), st.integers(1, 20_000))
ids = st.integers(1, 10_000).map(lambda n: [1] * n)
requests = st.lists(texts, max_size=150) | st.lists(ids, max_size=20)


@given(requests)
def test_every_item_is_in_one_job_in_order_and_within_the_limits(inputs: list[Input]) -> None:
    slices = cut(inputs)

    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(len(inputs)))
    for part in slices:
        items = inputs[part.start : part.stop]
        assert 1 <= len(items) <= MAX_JOB_ITEMS
        assert part.size_bytes == sum(map(size_bytes, items))
        assert part.size_bytes <= MAX_JOB_BYTES or len(items) == 1


@given(requests)
def test_no_two_neighbouring_jobs_would_fit_into_one(inputs: list[Input]) -> None:
    slices = cut(inputs)

    for here, after in pairwise(slices):
        first_bytes = size_bytes(inputs[after.start])
        assert (
            here.stop - here.start == MAX_JOB_ITEMS or here.size_bytes + first_bytes > MAX_JOB_BYTES
        )


def test_a_text_is_measured_in_bytes_of_utf8_and_an_id_as_four() -> None:
    assert size_bytes("aé日") == 6
    assert size_bytes([1, 2, 3]) == 12
