from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.catalog import same_name
from embedpool_shared.config.aliases import settled_aliases
from embedpool_shared.errors import ConfigInvalid


def test_an_alias_of_an_alias_ends_at_the_model() -> None:
    assert settled_aliases({"a": "b", "b": "c", "c": "Model"}, ["Model"]) == {
        "a": "Model",
        "b": "Model",
        "c": "Model",
    }


def test_case_hyphen_and_underscore_do_not_tell_names_apart() -> None:
    assert settled_aliases({"My-Small": "TEXT_embedding3_SMALL"}, ["text-embedding-3-small"]) == {
        "mysmall": "text-embedding-3-small"
    }


def test_the_exact_spelling_wins_between_models_of_nearly_one_name() -> None:
    models = ["embed_a", "embed-a"]

    assert settled_aliases({"x": "embed_a", "y": "embed-a"}, models) == {
        "x": "embed_a",
        "y": "embed-a",
    }


def test_a_name_that_no_model_has_is_passed_on() -> None:
    assert settled_aliases({"x": "cohere/embed-v4.0"}, []) == {"x": "cohere/embed-v4.0"}


def test_an_alias_that_is_a_models_own_name_is_no_circle() -> None:
    assert settled_aliases({"a": "A"}, ["a"]) == {"a": "a"}


@pytest.mark.parametrize("aliases", [{"a": "a"}, {"a": "b", "b": "A_"}, {"x": "a", "a": "a-"}])
def test_a_circle_is_refused(aliases: dict[str, str]) -> None:
    with pytest.raises(ConfigInvalid, match="a circle"):
        settled_aliases(aliases, ["m"])


def test_two_aliases_of_one_name_with_two_meanings_are_refused() -> None:
    with pytest.raises(ConfigInvalid, match="do not tell names apart"):
        settled_aliases({"a-b": "m", "A_B": "n"}, ["m", "n"])


_names = st.sampled_from(["a", "b", "c", "d", "A", "b-", "model", "Mo-del"])


@given(st.dictionaries(_names, _names))
def test_every_settled_alias_ends_at_a_model_or_at_no_alias(aliases: dict[str, str]) -> None:
    try:
        settled = settled_aliases(aliases, ["model"])
    except ConfigInvalid:
        return

    assert settled.keys() == {same_name(alias) for alias in aliases}
    assert all(end == "model" or same_name(end) not in settled for end in settled.values())
