"""Counting agrees with an independent tokenizer, and no id reaches unsafe code."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedpool_shared import tokens

with warnings.catch_warnings():  # it reads its data with a deprecated function
    warnings.simplefilter("ignore", DeprecationWarning)
    import bpe_openai

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("cl100k_base", "", 0),
        ("cl100k_base", "hello world", 2),
        ("cl100k_base", "The quick brown fox jumps over the lazy dog", 9),
        ("o200k_base", "hello world", 2),
        ("voyage3_base", "hello world", 2),
    ],
)
def test_known_texts_have_known_counts(encoding: str, text: str, expected: int) -> None:
    assert tokens.count(encoding, text) == expected


def test_special_tokens_in_a_text_are_ordinary_text() -> None:
    assert tokens.count("cl100k_base", "<|endoftext|>") == 7


@pytest.mark.parametrize("encoding", tokens.VOCABULARY_SIZES)
def test_the_vocabulary_ends_where_the_table_of_the_library_has_its_last_ordinary_piece(
    encoding: str,
) -> None:
    library = bpe_openai.get_encoding(encoding)
    pieces = library.token_byte_values()
    ordinary = [i for i, piece in enumerate(pieces) if piece and not library.is_special_token(i)]

    assert ordinary == list(range(tokens.vocabulary_size(encoding)))


@given(texts)
@settings(deadline=None, max_examples=100)
def test_decoding_undoes_encoding_and_counting_counts_the_ids(text: str) -> None:
    ids = bpe_openai.get_encoding("cl100k_base").encode_ordinary(text)

    assert tokens.decode("cl100k_base", ids) == text
    assert tokens.count("cl100k_base", text) == len(ids)
    assert tokens.count("cl100k_base", text) <= len(text.encode())


@given(texts, st.integers(0, 300))
@settings(deadline=None)
def test_counting_up_to_a_limit_agrees_with_counting(text: str, limit: int) -> None:
    exact = tokens.count("cl100k_base", text)

    assert tokens.count_up_to("cl100k_base", text, limit) == (exact if exact <= limit else None)


def test_counting_all_counts_each() -> None:
    assert tokens.count_all("cl100k_base", ["hello world", "", "hello"]) == [2, 0, 1]


def test_a_cut_inside_a_letter_becomes_a_replacement_character() -> None:
    assert tokens.decode("cl100k_base", [76460]) == "\ufffd"


@pytest.mark.parametrize("stray", [-1, 100_256, 100_257, 100_276, 2**32, 2**63])
def test_an_id_outside_the_vocabulary_is_refused_by_name(stray: int) -> None:
    with pytest.raises(tokens.TokenIdUnknown, match=str(stray)):
        tokens.decode("cl100k_base", [1, stray, 2])


def test_no_ids_are_no_text() -> None:
    assert tokens.decode("cl100k_base", []) == ""


@pytest.mark.parametrize("name", ["", "p50k_base", "cl100k"])
def test_an_encoding_we_do_not_ship_is_refused_without_the_network(name: str) -> None:
    assert not tokens.knows(name)
    with pytest.raises(tokens.EncodingUnknown, match="cl100k_base"):
        tokens.count(name, "x")
    with pytest.raises(tokens.EncodingUnknown):
        tokens.decode(name, [1])
    with pytest.raises(tokens.EncodingUnknown):
        tokens.load(name)
