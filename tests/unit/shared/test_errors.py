"""The tree in the docstring is the tree in the code."""

from __future__ import annotations

import inspect
import re

import pytest

from embedpool_shared import errors
from embedpool_shared.errors import EmbedPoolError, Overloaded

LINE = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)(?: {2,}(?P<words>\S.*))?$")
INDENT = 4


def drawn() -> dict[str, str | None]:
    """Each class of the docstring's tree, and its parent."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines()[2:]:
        found = LINE.match(line)
        if found:
            depth = len(found["indent"]) // INDENT
            path = [*path[:depth], found["name"]]
            parents[found["name"]] = path[-2] if depth else None
    return parents


def coded() -> dict[str, str | None]:
    classes = inspect.getmembers(errors, inspect.isclass)
    ours = {cls: name for name, cls in classes if cls.__module__ == errors.__name__}
    return {name: ours.get(cls.__bases__[0]) for cls, name in ours.items()}


def test_the_tree_lists_exactly_the_classes_that_exist_under_their_parents() -> None:
    assert drawn() == coded()
    assert [name for name, parent in coded().items() if parent is None] == ["EmbedPoolError"]


@pytest.mark.parametrize("name", [name for name in coded() if name != "EmbedPoolError"])
def test_every_error_says_in_the_tree_what_it_means(name: str) -> None:
    lines = [LINE.match(line) for line in (errors.__doc__ or "").splitlines()]

    (words,) = [found["words"] for found in lines if found and found["name"] == name]

    assert words


def test_an_error_carries_what_its_caller_needs() -> None:
    error = Overloaded("The queue is full", code="overloaded", retry_after_s=2.0)

    assert str(error) == error.message == "The queue is full"
    assert (error.param, error.code, error.retry_after_s) == (None, "overloaded", 2.0)


def test_an_error_may_know_nothing_but_its_words() -> None:
    error = EmbedPoolError("words")

    assert (error.param, error.code, error.retry_after_s) == (None, None, None)
