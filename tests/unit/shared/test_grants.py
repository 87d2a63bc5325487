"""Names and patterns of models."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.grants import fits, is_granted, narrowing

LETTERS = st.text("ab/*", max_size=8)
NAMES = st.text("ab/", max_size=12)


@given(NAMES, LETTERS)
def test_a_pattern_fits_what_its_stars_can_be_filled_in_to(model: str, pattern: str) -> None:
    as_expression = ".*".join(map(re.escape, pattern.split("*")))

    assert fits(model, pattern) is bool(re.fullmatch(as_expression, model))


@pytest.mark.parametrize(
    ("model", "granted"),
    [
        ("openai/text-embedding-3-small", True),
        ("openai/", True),
        ("voyage-3", True),
        ("voyage-3-large", False),
        ("azure/openai/x", False),
        ("OpenAI/x", False),
        ("openai", False),
        ("openai/*", True),
    ],
)
def test_a_list_grants_what_it_names_and_what_fits_its_patterns(model: str, granted: bool) -> None:
    assert is_granted(model, frozenset({"voyage-3", "openai/*"})) is granted


def test_a_pattern_of_many_stars_is_done_at_once() -> None:
    assert not fits("a" * 512, "*a" * 200 + "*b")


@pytest.mark.parametrize("names", [(), ("*",), ("all-team-models", "a"), ("all-proxy-models",)])
def test_a_list_that_withholds_nothing_is_left_out(names: tuple[str, ...]) -> None:
    assert narrowing([names, ("a", "b/*")]) == (frozenset({"a", "b/*"}),)


def test_a_list_of_a_model_that_there_is_not_grants_nothing() -> None:
    [grant] = narrowing([("no-default-models",)])

    assert not is_granted("text-embedding-3-small", grant)
