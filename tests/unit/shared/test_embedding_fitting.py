"""A request is compared with its model's card before anything is queued."""

from __future__ import annotations

from typing import Any

import pytest

from embedpool_shared import tokens
from embedpool_shared.catalog import ANY_DIMENSIONS
from embedpool_shared.embedding.fitting import Fitted, fit, work_bytes
from embedpool_shared.embedding.models import Resolved
from embedpool_shared.embedding.request import EmbeddingRequest
from embedpool_shared.errors import BadRequest
from embedpool_shared.jobs import Input, MergeKey
from support.cards import found

DOG = "The quick brown fox jumps over the lazy dog"
FOREIGN: dict[str, Any] = {"takes_token_ids": False, "encoding": ""}


def fitted(
    resolved: Resolved, inputs: list[Input] | None = None, *, drop: bool = False, **fields: Any
) -> Fitted:
    request = EmbeddingRequest(model="m", inputs=["a"] if inputs is None else inputs, **fields)
    return fit(request, resolved, tokens=tokens, drop_params=drop)


def refused(resolved: Resolved, inputs: list[Input] | None = None, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        fitted(resolved, inputs, **fields)
    return caught.value


def test_the_merge_key_is_the_model_with_all_that_changes_its_answer() -> None:
    request = EmbeddingRequest(model="m", inputs=["a"], dimensions=64, params={"b": 1, "a": 2})

    merge = fit(request, found("small@openai"), tokens=tokens, scope="team:x").merge

    assert merge == MergeKey("text-embedding-3-small", 64, '{"a":2,"b":1}', "team:x", "openai")


def test_what_a_wildcard_matched_is_the_model_of_the_merge_key() -> None:
    assert fitted(found("mistral/embed")).merge == MergeKey("mistral/embed")


def test_neither_user_nor_encoding_splits_batches() -> None:
    plain = fitted(found()).merge

    assert fitted(found(), user="u", is_base64=True, metadata={"a": 1}, tags=("t",)).merge == plain


def test_a_user_that_is_forwarded_joins_the_merge_key_where_the_provider_knows_users() -> None:
    request = EmbeddingRequest(model="m", inputs=["a"], user="alice", params={"b": 1})
    known, foreign = found(merges_body=True), found(merges_body=False, params=("b",))

    def params(resolved: Resolved) -> str:
        return fit(request, resolved, tokens=tokens, forwards_user=True).merge.params

    assert params(known) == '{"b":1,"user":"alice"}'
    assert params(foreign) == '{"b":1}'


@pytest.mark.parametrize(
    ("allowed", "native", "asked", "expected"),
    [
        ((), 256, None, None),
        ((), 256, 256, None),
        ((128, 64), 256, 64, 64),
        (ANY_DIMENSIONS, 1_536, 1_536, None),
        (ANY_DIMENSIONS, 1_536, 7, 7),
        (ANY_DIMENSIONS, None, 9_999, 9_999),
    ],
)
def test_dimensions_the_model_has_are_not_forwarded_and_others_it_does_are(
    allowed: Any, native: int | None, asked: int | None, expected: int | None
) -> None:
    resolved = found(dimensions_allowed=allowed, dimensions=native)

    assert fitted(resolved, dimensions=asked).merge.dimensions == expected


@pytest.mark.parametrize(
    ("allowed", "native", "asked", "says"),
    [
        ((128, 64), 256, 100, "possible are 256, 128, 64"),
        ((128, 64), None, 256, "possible are 128, 64"),
        ((), 256, 255, "its 256 dimensions cannot be shortened"),
        ((), None, 255, "its vectors cannot be shortened"),
        (ANY_DIMENSIONS, 1_536, 1_537, "1 to 1536 are possible"),
    ],
)
def test_dimensions_the_model_cannot_do_are_refused_with_those_it_can(
    allowed: Any, native: int | None, asked: int, says: str
) -> None:
    error = refused(found(dimensions_allowed=allowed, dimensions=native), dimensions=asked)

    assert error.param == "dimensions"
    assert f"`text-embedding-3-small` does not support `dimensions: {asked}`" in error.message
    assert says in error.message


def test_parameters_the_model_knows_are_merged() -> None:
    fit_ = fitted(found("cohere/embed-english-v3.0"), params={"input_type": "search_query"})

    assert fit_.merge.params == '{"input_type":"search_query"}'


def test_a_parameter_the_model_does_not_know_is_refused_by_name() -> None:
    error = refused(found("cohere/embed-english-v3.0"), params={"input_type": "q", "foo": 1})

    assert error.param == "foo"
    assert "`foo`; it knows input_type, truncate" in error.message


def test_unknown_parameters_are_dropped_where_the_operator_says_so() -> None:
    fit_ = fitted(found("wordllama"), params={"foo": 1}, drop=True)

    assert fit_.merge.params == ""


def test_an_adapter_that_merges_bodies_gets_every_parameter() -> None:
    assert fitted(found(), params={"foo": 1}).merge.params == '{"foo":1}'


def test_short_texts_are_never_tokenised() -> None:
    class NoTokenizer:
        def __getattr__(self, name: str) -> Any:
            assert name == "knows"
            return lambda encoding: True

    request = EmbeddingRequest(model="m", inputs=["x" * 8_192, "é" * 4_096])

    assert fit(request, found(), tokens=NoTokenizer()).counts is None


def test_a_long_text_that_fits_is_counted_once_for_all() -> None:
    text = DOG * 300

    assert fitted(found(), [text]).counts == [tokens.count("cl100k_base", text)]
    assert fitted(found(), [text, "a"]).counts is None


@pytest.mark.parametrize("repeats", [1_000, 20_000], ids=["counted", "estimated"])
def test_a_text_too_long_is_refused_in_openais_words(repeats: int) -> None:
    text = "x " * repeats * 10
    exact = tokens.count("cl100k_base", text)

    error = refused(found(), ["a", text])

    assert error.param == "input[1]"
    assert error.message.startswith(
        "This model's maximum context length is 8192 tokens, however you requested "
    )
    assert error.message.endswith(
        "in your prompt; 0 for the completion). Please reduce your prompt; or completion length."
    )
    said = int(error.message.split("requested ")[1].split(" ")[0])
    assert said == pytest.approx(exact, rel=0.01)
    assert f"({said} in your prompt;" in error.message


def test_a_text_of_one_token_too_many_is_refused() -> None:
    resolved = found(max_item_tokens=9)

    assert fitted(resolved, [DOG]).counts == [9]
    assert refused(found(max_item_tokens=8), [DOG]).param == "input[0]"


def test_texts_too_long_together_are_refused_with_openais_code() -> None:
    resolved = found(max_request_tokens=100)

    assert fitted(resolved, [DOG] * 11).counts == [9] * 11
    error = refused(resolved, [DOG] * 12)
    assert (error.code, error.param) == ("max_tokens_per_request", "input")
    assert "Requested 108 tokens, max 100" in error.message


def test_a_model_we_have_no_tokenizer_for_judges_lengths_itself() -> None:
    assert fitted(found(encoding=""), ["x" * 100_000]).counts is None


def test_ids_go_as_they_are_to_a_provider_that_shares_their_vocabulary() -> None:
    assert fitted(found(), [[791, 4062], [14198]])[1:] == ([[791, 4062], [14198]], [2, 1])


def test_ids_are_decoded_for_everybody_else_and_still_counted_as_ids() -> None:
    fit_ = fitted(found(**FOREIGN), [[791, 4062], [76460]])

    assert fit_[1:] == (["The quick", "\ufffd"], [2, 1])


@pytest.mark.parametrize("changes", [{}, FOREIGN], ids=["raw", "decoded"])
@pytest.mark.parametrize("stray", [100_256, 100_257, 2**40])
def test_an_id_outside_the_vocabulary_is_refused(changes: dict[str, Any], stray: int) -> None:
    error = refused(found(**changes), [[1], [2, stray]])

    assert error.param == "input[1]"
    assert error.message.startswith("Invalid input format: input[1]")


def test_ids_of_a_vocabulary_of_the_models_own_are_left_to_the_provider() -> None:
    assert fitted(found(encoding="", takes_token_ids=True), [[2**40]]).counts == [1]


def test_ids_for_a_model_whose_vocabulary_we_lack_are_refused() -> None:
    error = refused(found(takes_token_ids=False, token_encoding="bert"), [[1]])

    assert error.param == "input"


def test_token_arrays_too_long_are_refused_alone_and_together() -> None:
    alone = refused(found(), [[1] * 8_193])
    together = refused(found(max_request_tokens=10), [[1] * 6, [1] * 5])

    assert "you requested 8193 tokens (8193 in your prompt" in alone.message
    assert together.code == "max_tokens_per_request"
    assert fitted(found(), [[1] * 8_192]).counts == [8_192]


def test_ids_of_a_foreign_vocabulary_are_measured_by_their_text() -> None:
    resolved = found(
        takes_token_ids=False,
        encoding="o200k_base",
        token_encoding="cl100k_base",
        max_item_tokens=3,
    )

    assert fitted(resolved, [[791, 4062]]).counts == [2]
    assert refused(resolved, [[791, 4062] * 3]).param == "input[0]"


@pytest.mark.parametrize(
    ("changes", "inputs", "expected"),
    [
        ({}, ["x" * 8_192], 0),
        ({}, ["x" * 8_193, "y"], 8_193),
        ({"encoding": ""}, ["x" * 8_193], 0),
        ({"max_request_tokens": 10}, ["x" * 6, "y" * 5], 11),
        ({}, [[1] * 100], 0),
        (FOREIGN, [[1] * 100], 400),
    ],
)
def test_work_that_does_not_belong_on_the_loop_is_known_beforehand(
    changes: dict[str, Any], inputs: list[Input], expected: int
) -> None:
    request = EmbeddingRequest(model="m", inputs=inputs)

    assert work_bytes(request, found(**changes), tokens=tokens) == expected
