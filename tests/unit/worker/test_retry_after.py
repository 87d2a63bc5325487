from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.providers.retry_after import MAX_WAIT_S, duration_s, retry_after_s

NOW_UNIX_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12ms", 0.012), ("6m0s", 360.0), ("1h1m1s", 3_661.0), ("1.5", 1.5), ("0.25s", 0.25)],
)
def test_a_duration_is_read_in_every_spelling(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "5 minutes", "-"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration_s(text) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.25"}, 1.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": formatdate(NOW_UNIX_S + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW_UNIX_S - 90, usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "99999999"}, MAX_WAIT_S),
        ({"retry-after": "tomorrow"}, None),
        ({}, None),
    ],
    ids=[
        "seconds",
        "broken seconds",
        "milliseconds win",
        "unreadable milliseconds do not",
        "a date",
        "a date gone by",
        "negative",
        "too long",
        "unreadable",
        "absent",
    ],
)
def test_the_wait_is_read_from_whatever_the_provider_sends(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers, now_unix_s=NOW_UNIX_S) == seconds


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_wait_is_always_bounded_whatever_the_headers_say(seconds: str, millis: str) -> None:
    headers = {"retry-after": seconds, "retry-after-ms": millis}

    wait_s = retry_after_s(headers, now_unix_s=NOW_UNIX_S)

    assert wait_s is None or 0.0 <= wait_s <= MAX_WAIT_S
