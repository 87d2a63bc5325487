from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.providers.scrub import MAX_MESSAGE_CHARS, REDACTED, scrubbed


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF123456",
        "sk-abc***************xyz",
        "AIzaSyA1234567890abcdefghijk",
        "hf_abcdefghijkl",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_a_message_never_shows_what_looks_like_a_key(key: str) -> None:
    message = scrubbed(f"Incorrect API key provided: {key}. You can find yours online.")

    assert key not in message
    assert REDACTED in message
    assert "You can find yours online." in message


@pytest.mark.parametrize(
    "text",
    ["Authorization: Bearer abc.def", 'api_key="hunter22"', "https://x/?key=shorty1&alt=json"],
)
def test_what_stands_where_a_key_stands_is_hidden(text: str) -> None:
    message = scrubbed(text)

    assert REDACTED in message
    assert not any(secret in message for secret in ("abc.def", "hunter22", "shorty1"))


def test_the_secret_of_the_call_is_hidden_whatever_it_looks_like() -> None:
    assert scrubbed("no such user: plain", ["plain"]) == f"no such user: {REDACTED}"


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9000 tokens",
        "batch size is invalid, it should not be larger than 10.",
        "The model `text-embedding-3-small` does not exist",
        "unsupported: BAAI/bge-large-en-v1.5",
    ],
)
def test_an_ordinary_message_stays_as_it_is(message: str) -> None:
    assert scrubbed(message) == message


@given(st.text(max_size=3_000), st.text(min_size=8, max_size=40, alphabet="abcXYZ019_"))
def test_a_message_is_bounded_and_without_the_secret(text: str, secret: str) -> None:
    message = scrubbed(text + secret + text, [secret])

    assert len(message) <= MAX_MESSAGE_CHARS
    assert secret not in message
    assert message.isprintable() or not any(ord(c) < 32 for c in message)
