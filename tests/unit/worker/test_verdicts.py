"""Every error an adapter may raise has a verdict, and words for the caller."""

from __future__ import annotations

import inspect

import pytest

from embedpool_shared import errors
from embedpool_shared.errors import (
    CapExceeded,
    InputRefused,
    KeyRejected,
    NoKeys,
    ProviderError,
    ProviderFailed,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_worker.verdicts import VERDICT_OF, Verdict, for_caller, no_keys, verdict

KINDS = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, ProviderError) and cls is not ProviderError
]


def test_the_table_is_closed() -> None:
    assert set(VERDICT_OF) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_input_is_never_split(kind: type[ProviderError]) -> None:
    many, single = verdict(kind("x"), inputs=2), verdict(kind("x"), inputs=1)

    assert many is VERDICT_OF[kind]
    assert single is (Verdict.GIVE_UP if many is Verdict.SPLIT else many)


def test_an_error_nobody_knows_is_given_up() -> None:
    assert verdict(ProviderError("?"), inputs=9) is Verdict.GIVE_UP


@pytest.mark.parametrize(
    ("kind", "told", "code"),
    [
        (RefusedInput, InputRefused, "theirs"),
        (CapExceeded, InputRefused, "theirs"),
        (ProviderThrottled, NoKeys, "no_keys"),
        (QuotaExhausted, NoKeys, "no_keys"),
        (KeyRejected, NoKeys, "no_keys"),
        (ProviderUnavailable, ProviderFailed, None),
        (WrongAnswer, ProviderFailed, None),
        (ProviderError, ProviderFailed, None),
    ],
)
def test_a_caller_hears_of_the_condition_and_of_the_provider(
    kind: type[ProviderError], told: type[errors.EmbedPoolError], code: str | None
) -> None:
    error = for_caller(kind("their words", code="theirs", retry_after_s=3.0), "openai")

    assert type(error) is told
    assert error.message.startswith("[openai] ")
    assert error.code == code
    assert not isinstance(error, ProviderError), "it crosses Redis"
    assert ("their words" in error.message) is (told is not NoKeys)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(None, "input"), ("input", "input"), ("dimensions", "dimensions"), ("model", "model")],
)
def test_a_caller_hears_which_field_the_provider_does_not_want(
    theirs: str | None, ours: str
) -> None:
    assert for_caller(RefusedInput("no", param=theirs), "openai").param == ours


def test_the_words_for_no_keys_are_those_that_clients_know() -> None:
    error = no_keys("openai", retry_after_s=2.5)

    assert error.message == "[openai] No available keys for provider 'openai'"
    assert error.retry_after_s == 2.5
