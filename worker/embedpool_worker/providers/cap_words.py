"""Which cap a provider's refusal speaks of, and the number it names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class CapKind(StrEnum):
    """What a call had too much of."""

    ITEMS = "items"  # too many inputs in one call
    CALL_TOKENS = "call_tokens"  # too many tokens over all inputs
    CALL_BYTES = "call_bytes"  # too large a body


@dataclass(frozen=True, slots=True)
class NamedCap:
    """A cap that a provider complained about."""

    kind: CapKind
    number: int | None  # the most it takes, where the message says so


_NUMBER: Final = r"\D{0,3}(\d[\d,_]{0,14})"
_NOT_THE_CALL: Final = re.compile(
    r"dimension|maximum context length|maximum input length"
    r"|max(?:imum)?_?(?: sequence)? ?length of the model"
    r"|(?:must have|has) less than \d+ tokens|maxLength|input is too long|context window"
    r"|string too long|input\[\d+\]|max(?:imum)? tokens per (?:input|text|document|item)",
    re.IGNORECASE,
)
_MOST: Final = tuple(
    re.compile(pattern + _NUMBER, re.IGNORECASE)
    for pattern in (
        r"maximum allowed batch size(?: is| of)?",
        r"batch size limit(?: is| of)?",
        r"max(?:imum)? allowed tokens per submitted batch(?: is)?",
        r"maximum item count",
        r"max(?:imum)?(?: array)? length(?: is| of)?",
        r"(?:not|n't|no) (?:be )?(?:larger|greater|more|bigger|longer) than",
        r"at most",
        r"up to",
        r"less than or equal to",
        r"max(?:imum)?(?: batch size| number of \w+| tokens)?(?: (?:is|of|allowed))?",
        r"limit(?: is| of)?",
    )
)
_ALLOWED_FIRST: Final = re.compile(
    r"(\d[\d,_]{0,14}) instance\(s\) (?:is|are) allowed", re.IGNORECASE
)
_TOKENS: Final = re.compile(r"tokens?\b", re.IGNORECASE)
_BYTES: Final = re.compile(
    r"\bbytes?\b|\bpayload\b|\bbody\b|request entity|request size|content length", re.IGNORECASE
)
_SMELL: Final = re.compile(
    r"batch[ _]?size|batch is too|too (?:many|large|long|big)|array_above_max_length"
    r"|maximum (?:number|item|length|allowed)|array with maximum"
    r"|max(?:imum)? (?:is|batch|tokens|allowed)"
    r"|(?:larger|greater|more) than \d|at most \d|instance\(s\)|tokens per (?:request|submitted)"
    r"|max_tokens_per_request|split into more batches|supports up to|exceeds? the (?:max|limit)"
    r"|can be in one batch|limit is \d",
    re.IGNORECASE,
)


def cap_named(message: str) -> NamedCap | None:
    """The cap a refusal is about; None where it is about one input, or about something else."""
    if _NOT_THE_CALL.search(message) or not _SMELL.search(message):
        return None
    return NamedCap(_kind(message), _most(message))


def _kind(message: str) -> CapKind:
    if _BYTES.search(message):
        return CapKind.CALL_BYTES
    if _TOKENS.search(message):
        return CapKind.CALL_TOKENS
    return CapKind.ITEMS


def _most(message: str) -> int | None:
    for pattern in (_ALLOWED_FIRST, *_MOST):
        if found := pattern.search(message):
            number = int(re.sub(r"\D", "", found.group(1)))
            return number if number > 0 else None
    return None
