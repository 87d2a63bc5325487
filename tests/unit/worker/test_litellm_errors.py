from __future__ import annotations

import inspect

import pytest

from embedpool_shared.errors import (
    CapExceeded,
    KeyForbidden,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_worker.providers.litellm_errors import STATUS_OF_EXCEPTION, ours
from embedpool_worker.providers.litellm_http import Sighting


def named(name: str, message: str = "no", base: type[Exception] = Exception) -> Exception:
    cls: type[Exception] = type(name, (base,), {})
    return cls(message)


def condition(error: Exception, **seen: object) -> ProviderError:
    return ours(error, Sighting(**seen), now_unix_s=0.0)  # type: ignore[arg-type]


def test_every_exception_of_litellm_is_in_the_table_and_no_other() -> None:
    exceptions = pytest.importorskip("litellm.exceptions")

    theirs = {
        name
        for name, cls in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(cls, Exception) and cls.__module__ == exceptions.__name__
    }

    assert theirs == set(STATUS_OF_EXCEPTION)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AuthenticationError", KeyRejected),
        ("PermissionDeniedError", KeyForbidden),
        ("RateLimitError", ProviderThrottled),
        ("PaymentRequiredError", QuotaExhausted),
        ("BadRequestError", RefusedInput),
        ("NotFoundError", RefusedInput),
        ("Timeout", ProviderUnavailable),
        ("InternalServerError", ProviderUnavailable),
        ("NeverHeardOf", ProviderUnavailable),
    ],
)
def test_an_exception_stands_for_a_condition(name: str, kind: type[ProviderError]) -> None:
    assert type(condition(named(name))) is kind


def test_the_most_specific_class_decides() -> None:
    general = type("BadRequestError", (Exception,), {})

    assert type(condition(named("PaymentRequiredError", base=general))) is QuotaExhausted
    assert type(condition(named("TheirNewOne", base=general))) is RefusedInput


def test_what_was_seen_on_the_wire_is_believed_before_the_exception() -> None:
    error = condition(
        named("APIConnectionError"),
        status=400,
        headers={},
        body=b'{"message":"total number of texts must be at most 96"}',
    )

    assert type(error) is CapExceeded


def test_a_200_that_could_not_be_read_is_a_wrong_answer() -> None:
    assert type(condition(KeyError("embeddings"), status=200, body=b'{"x":1}')) is WrongAnswer


def test_a_broken_connection_is_unavailable() -> None:
    assert type(condition(named("APIError"), broken="ConnectError")) is ProviderUnavailable


def test_the_message_is_without_litellms_preface() -> None:
    error = condition(
        named("BadRequestError", "litellm.BadRequestError: OpenAIException - too long")
    )

    assert error.message == "too long"
