"""The four shapes of `input`, and how large an input is. Pure.

A string, an array of strings, an array of token ids (one input) or an array of those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from embedpool_shared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedpool_shared.jobs import Input

MAX_ITEMS: Final = 2_048
ID_BYTES: Final = 4
"""A token id counts as the text it stands for usually has."""
_WANTED: Final = "a string, an array of strings, an array of token ids or an array of such arrays"
_NAMES: Final = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number that is no integer",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def inputs_of(value: Any) -> list[Input]:
    """Read `input` as a list of 1 to 2048 items; raises `BadRequest` naming the position."""
    if type(value) is str:
        if not value:
            raise _misshapen("input", "it is an empty string")
        return [value]
    if type(value) is not list:
        raise _misshapen("input", f"expected {_WANTED}, got {_NAMES[type(value)]}")
    if not value:
        raise _misshapen("input", "it is an empty array")
    kind = type(value[0])
    if kind is int:
        _check_ids(value, "input")
        return [value]
    if kind is not str and kind is not list:
        raise _misshapen("input[0]", f"expected {_WANTED}, got {_NAMES[kind]}")
    _check_items(value, kind)
    return value


def size_bytes(item: Input) -> int:
    """Measure one input in bytes of UTF-8; no byte-level tokenizer makes more tokens of it."""
    if type(item) is str:
        return len(item) if item.isascii() else len(item.encode())
    return ID_BYTES * len(item)


def total_bytes(items: Iterable[Input]) -> int:
    """Measure all of a request's inputs."""
    return sum(map(size_bytes, items))


def _check_items(items: list[Any], kind: type) -> None:
    if len(items) > MAX_ITEMS:
        raise BadRequest(
            f"Invalid input format: the array is too long; expected at most {MAX_ITEMS} items, "
            f"got {len(items)}",
            param="input",
            code="array_above_max_length",
        )
    if len(set(map(type, items))) > 1:
        place, stray = next((i, x) for i, x in enumerate(items) if type(x) is not kind)
        raise _mixed(f"input[{place}]", stray, kind)
    if kind is str:
        if "" in items:
            raise _misshapen(f"input[{items.index('')}]", "it is an empty string")
        return
    for place, ids in enumerate(items):
        _check_ids(ids, f"input[{place}]")


def _check_ids(ids: list[Any], where: str) -> None:
    if not ids:
        raise _misshapen(where, "it is an empty array")
    if set(map(type, ids)) != {int}:
        place, stray = next((i, x) for i, x in enumerate(ids) if type(x) is not int)
        raise _mixed(f"{where}[{place}]", stray, int)
    if min(cast("list[int]", ids)) < 0:
        place = next(i for i, id_ in enumerate(ids) if id_ < 0)
        raise _misshapen(f"{where}[{place}]", "a token id is never negative")


def _mixed(where: str, stray: Any, kind: type) -> BadRequest:
    return _misshapen(where, f"expected {_NAMES[kind]} as before it, got {_NAMES[type(stray)]}")


def _misshapen(where: str, problem: str) -> BadRequest:
    return BadRequest(f"Invalid input format: {where}: {problem}", param=where)
