from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "name", "capture"),
    [
        ("*", "anything/at-all", "anything/at-all"),
        ("openai/*", "openai/x", "x"),
        ("openai/*", "openai/", None),
        ("openai/*", "azure/openai/x", None),
        ("a.b/*", "aXb/c", None),
        ("*-embed", "my-embed", "my"),
        ("*/v1/*", "me/v1/you", "me"),
    ],
)
def test_a_pattern_captures_what_its_star_stands_for(
    pattern: str, name: str, capture: str | None
) -> None:
    assert Pattern(pattern).captured(name) == capture


def test_the_most_specific_pattern_comes_first() -> None:
    patterns = ["*", "openai/*", "*/*", "openai/text-*"]

    ordered = sorted(patterns, key=lambda text: Pattern(text).specificity)

    assert ordered == ["openai/text-*", "openai/*", "*/*", "*"]


_text = st.text(min_size=1).filter(lambda text: "*" not in text)


@given(_text, _text, _text)
def test_what_was_filled_in_is_captured_again(before: str, capture: str, after: str) -> None:
    pattern = Pattern(f"{before}*{after}")

    assert pattern.captured(pattern.filled(capture)) == capture
