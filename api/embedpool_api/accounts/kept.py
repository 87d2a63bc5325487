"""What Redis keeps of one account: its record, and what was spent in its name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from embedpool_shared.accounts import (
    RECORD,
    KeyRecord,
    PeriodField,
    SpendField,
    TeamRecord,
    UserRecord,
    record_of,
)

R = TypeVar("R", KeyRecord, TeamRecord, UserRecord)

FIELDS: Final = (RECORD, PeriodField.RESET_AT.value, *(field.value for field in SpendField))
"""What is read of an account's hash, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the roll-up has added up for an account."""

    cost_pico_usd: int = 0
    period_cost_pico_usd: int = 0
    requests: int = 0
    used: int = 0
    paid: int = 0
    saved: int = 0
    waste: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept(Generic[R]):
    """A record as it was read, and when."""

    record: R
    raw: bytes  # the record as Redis has it, so that a change can tell whether it is still so
    spent: Spent
    reset_at: int | None  # when its budget's period ends, Unix seconds on Redis' clock
    read_at: float


def kept(kind: type[R], values: Sequence[bytes | None], *, read_at: float) -> Kept[R] | None:
    """Read the values of `FIELDS`; None where there is no record."""
    raw, reset_at, *_ = values
    if raw is None:
        return None
    return Kept(
        record=record_of(kind, raw),
        raw=raw,
        spent=spent_of(values),
        reset_at=None if reset_at is None else int(float(reset_at)),
        read_at=read_at,
    )


def spent_of(values: Sequence[bytes | None]) -> Spent:
    """Read what was spent from the values of `FIELDS`."""
    numbers = [int(value or 0) for value in values[2:]]
    cost, period_cost, requests, used, paid, saved, waste = numbers
    return Spent(
        cost_pico_usd=cost,
        period_cost_pico_usd=period_cost,
        requests=requests,
        used=used,
        paid=paid,
        saved=saved,
        waste=waste,
    )


def time_of(reply: Sequence[bytes]) -> float:
    """Read the answer to TIME, in Unix seconds."""
    return int(reply[0]) + int(reply[1]) / 1_000_000
