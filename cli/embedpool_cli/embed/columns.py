"""Of what type a carried column is, when its values come as JSON one after the other. Pure.

Values stay as they were written until all are known, so a column that turns from numbers to words
after a million rows loses nothing.
"""

from __future__ import annotations

import math
from enum import Enum, Flag, auto
from typing import Final

EXACT_DIGITS: Final = 15
"""Whole numbers of so many digits are themselves as float64."""
INT64: Final = range(-(2**63), 2**63)


class Kind(Flag):
    """What a value is; of a column, what its values are."""

    NULL = 0
    FLAG = auto()  # true, false
    SMALL = auto()  # a whole number that float64 holds exactly
    WHOLE = auto()  # a whole number that int64 holds
    DECIMAL = auto()  # any other number that float64 can be near to
    TEXT = auto()  # a string
    OTHER = auto()  # arrays, objects, numbers beyond all that


class ColumnType(Enum):
    """How a column is written."""

    FLAG = "bool"
    WHOLE = "int64"
    DECIMAL = "float64"
    TEXT = "string"
    MIXED = "string, JSON but for strings"


TYPES: Final = (
    (Kind.TEXT, ColumnType.TEXT),
    (Kind.FLAG, ColumnType.FLAG),
    (Kind.SMALL | Kind.WHOLE, ColumnType.WHOLE),
    (Kind.SMALL | Kind.DECIMAL, ColumnType.DECIMAL),
)


def column_type(seen: Kind) -> ColumnType:
    """Choose the narrowest type that holds every value exactly as it was."""
    return next((kind for allowed, kind in TYPES if not seen & ~allowed), ColumnType.MIXED)


def kind_of(value: str) -> Kind:
    """Tell what a JSON value is by how it is written."""
    match value[0]:
        case '"':
            return Kind.TEXT
        case "t" | "f":
            return Kind.FLAG
        case "n":
            return Kind.NULL
        case "[" | "{":
            return Kind.OTHER
        case _:
            return _kind_of_number(value)


def _kind_of_number(value: str) -> Kind:
    if "." in value or "e" in value or "E" in value:
        return Kind.DECIMAL if math.isfinite(float(value)) else Kind.OTHER
    if len(value) <= EXACT_DIGITS:
        return Kind.SMALL
    # Longer ones are not read before they are known to be short: int() has a limit of its own.
    return Kind.WHOLE if len(value) <= 20 and int(value) in INT64 else Kind.OTHER
