"""How long the vectors of a group are, where no catalogue says so."""

from __future__ import annotations

from embedpool_shared.jobs import MergeKey
from embedpool_worker.vector_lengths import MOST_REMEMBERED, VectorLengths
from support.lane_bench import deployment

PLAIN = MergeKey("m")
TWO = [deployment(id_="one"), deployment(id_="other")]


def test_the_first_answer_says_how_long_the_vectors_of_a_group_are() -> None:
    lengths = VectorLengths()

    assert [lengths.expected(PLAIN, TWO, dims) for dims in (768, 1_024, 768)] == [768] * 3


def test_what_was_asked_for_or_is_known_of_one_place_counts_more() -> None:
    lengths = VectorLengths()
    known = [deployment(id_="one"), deployment(id_="other", native_dimensions=512)]
    fixed = [deployment(id_="one", default_dimensions=64), deployment(id_="other")]

    assert lengths.expected(PLAIN, known, 768) == 512
    assert lengths.expected(PLAIN, fixed, 768) == 64
    assert lengths.expected(MergeKey("m", 256), known, 768) == 256


def test_models_and_parts_of_a_group_do_not_speak_for_each_other() -> None:
    lengths = VectorLengths()
    lengths.expected(PLAIN, TWO, 768)

    assert lengths.expected(MergeKey("n"), TWO, 1_024) == 1_024


def test_a_place_of_its_own_may_change_its_model() -> None:
    lengths = VectorLengths()

    assert [lengths.expected(PLAIN, TWO[:1], dims) for dims in (768, 1_024)] == [768, 1_024]


def test_names_that_callers_choose_are_not_remembered_without_end() -> None:
    lengths = VectorLengths()
    for number in range(MOST_REMEMBERED + 1):
        lengths.expected(MergeKey(f"m{number}"), TWO, 768)

    assert lengths.expected(MergeKey("m0"), TWO, 1_024) == 1_024
