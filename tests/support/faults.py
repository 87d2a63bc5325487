"""How a fake provider misbehaves: which calls a behaviour is about, and what it does to them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.vectors import Input


class Distortion(StrEnum):
    """A 200 that is not what was asked for."""

    FEWER = "fewer"  # the last vector is missing
    MORE = "more"  # one vector too many
    PERMUTED = "permuted"  # in another order, with the right indices
    GAP = "gap"  # the last index is one too high
    DUPLICATE_INDEX = "duplicate_index"  # every index is 0
    NO_INDEX = "no_index"  # entries without an index, in order
    FUSED = "fused"  # one vector for the whole list
    NAN = "nan"  # the last vector starts with NaN (null where floats are written)
    INFINITE = "infinite"  # … with infinity (null where floats are written)
    WRONG_LENGTH = "wrong_length"  # the last vector is one float short
    RAGGED_BYTES = "ragged_bytes"  # the last base64 holds no whole number of floats
    EMPTY_VECTOR = "empty_vector"  # the last vector has no floats at all
    NO_USAGE = "no_usage"  # everything right, but no usage
    TRUNCATED_JSON = "truncated_json"  # half of the body, with the length of that half
    ERROR_IN_200 = "error_in_200"  # an error object, status 200
    NOT_JSON = "not_json"  # a load balancer's HTML page, status 200


class Ending(StrEnum):
    """How an answer reaches the wire."""

    WHOLE = "whole"  # at once
    CUT = "cut"  # half of the bytes promised, then the connection ends
    RESET = "reset"  # not a byte, the connection is reset
    HANG = "hang"  # not a byte, the connection stays
    TRICKLE = "trickle"  # chunked, a few bytes at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One thing that happens to the calls it is about; several may hold for the same call.

    The first six fields say which calls: all that are given must hold. Latencies of all
    behaviours add up; of everything else the first behaviour that has it decides.
    """

    calls: int | None = None  # only the next so many calls it is about; None is for ever
    every: int = 1  # of the calls it is about, only each so-many-th
    key: str | None = None  # only calls with this credential
    text: Input | None = None  # only calls with an input equal to this …
    containing: str | None = None  # … or with a text that contains this
    more_items_than: int | None = None  # only calls with more inputs

    latency_s: float = 0.0
    latency_per_text_s: float = 0.0
    status: int | None = None  # answered instead of vectors
    message: str | None = None  # of the error; each status has one of its own
    headers: Mapping[str, str] = field(default_factory=dict)  # on whatever is answered
    body: str | None = None  # instead of the error the format would write
    max_items: int | None = None  # a larger call is a 400 that names this number
    max_tokens: int | None = None  # … and one with more tokens over all inputs
    max_item_tokens: int | None = None  # … and one with a longer single input
    rpm: int | None = None  # more calls of a key in any minute are 429s that say how long to wait
    tpm: int | None = None  # … and more tokens
    refuses_base64: bool = False  # 400
    ignores_base64: bool = False  # answers floats
    refuses_dimensions: bool = False  # 400
    distortion: Distortion | None = None
    padding_bytes: int = 0  # white space behind the JSON
    ending: Ending = Ending.WHOLE
    trickle_bytes: int = 64
    trickle_pause_s: float = 0.05

    def is_about(self, key: str | None, items: Sequence[Input]) -> bool:
        """Say whether a call with this credential and these inputs is meant."""
        if self.key is not None and key != self.key:
            return False
        if self.text is not None and self.text not in items:
            return False
        if self.more_items_than is not None and len(items) <= self.more_items_than:
            return False
        part = self.containing
        return part is None or any(isinstance(item, str) and part in item for item in items)


PLAIN = Behaviour()
"""Nothing special."""


def behaviour_from(described: Mapping[str, Any]) -> Behaviour:
    """Read a behaviour from JSON; raises ValueError for a field or a name that does not exist."""
    known = {one.name for one in fields(Behaviour)}
    if unknown := set(described) - known:
        raise ValueError(f"no such field of a behaviour: {', '.join(sorted(unknown))}")
    given = dict(described)
    if given.get("distortion") is not None:
        given["distortion"] = Distortion(given["distortion"])
    if "ending" in given:
        given["ending"] = Ending(given["ending"])
    return Behaviour(**given)


class Faults:
    """The behaviours in force; safe to change from another thread than the server's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_force: tuple[tuple[Behaviour, _Count], ...] = ()

    def set(self, behaviours: Sequence[Behaviour]) -> None:
        """Put these in force instead of all others; none at all makes the provider a good one."""
        with self._lock:
            self._in_force = tuple((one, _Count()) for one in behaviours)

    def of(self, key: str | None, items: Sequence[Input]) -> Sequence[Behaviour]:
        """Find what holds for this call, in the order given, and count the call."""
        if not self._in_force:
            return ()
        with self._lock:
            return [
                behaviour
                for behaviour, count in self._in_force
                if behaviour.is_about(key, items) and count.takes(behaviour)
            ]


@dataclass(slots=True)
class _Count:
    """How many calls a behaviour was about, and how many of them it befell."""

    about: int = 0
    befell: int = 0

    def takes(self, behaviour: Behaviour) -> bool:
        """Count one more, and tell whether it is befallen."""
        self.about += 1
        is_used_up = behaviour.calls is not None and self.befell >= behaviour.calls
        if is_used_up or self.about % behaviour.every:
            return False
        self.befell += 1
        return True


def merged(behaviours: Sequence[Behaviour]) -> Behaviour:
    """Make one behaviour of several: latencies add up, else the first that has a say decides."""
    if len(behaviours) < 2:
        return behaviours[0] if behaviours else PLAIN
    values: dict[str, Any] = {}
    for one in reversed(behaviours):
        values |= {
            name: value
            for name in _EFFECTS
            if (value := getattr(one, name)) != getattr(PLAIN, name)
        }
    values["latency_s"] = sum(one.latency_s for one in behaviours)
    values["latency_per_text_s"] = sum(one.latency_per_text_s for one in behaviours)
    return Behaviour(**values)


_EFFECTS = tuple(
    one.name
    for one in fields(Behaviour)
    if one.name not in {"calls", "every", "key", "text", "containing", "more_items_than"}
)
