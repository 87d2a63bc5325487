"""Whom limits, budgets and spend are counted for, and what is known of them. Pure.

An account is named `<kind>:<id>`. Keys, teams and users have a record and may have limits; the
other kinds only collect spend. The record lives as JSON in the field `RECORD` of the account's
hash, beside the spend that the roll-up adds up there. The limits reach the admission script with
each call, from the record as the api last read it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from embedpool_shared.errors import InternalError

RECORD: Final = "record"
"""Field of an account's hash: the record as JSON."""
PICO_PER_USD: Final = 1_000_000_000_000
MONTHLY: Final = "month"
"""`Limits.budget_every` of a budget that begins anew with each calendar month (UTC)."""


class AccountKind(StrEnum):
    """What an account stands for."""

    KEY = "key"
    TEAM = "team"
    USER = "user"
    END_USER = "end_user"
    TAG = "tag"
    MODEL = "model"
    PROVIDER = "provider"
    PASSTHROUGH = "passthrough"  # a caller's own provider key, by 16 hex digits of its digest
    CALLER = "caller"  # caller:master and caller:open
    GLOBAL = "global"  # global:all


def account_name(kind: AccountKind, account_id: str) -> str:
    """Name an account."""
    return f"{kind.value}:{account_id}"


class PeriodField(StrEnum):
    """Fields of an account's hash that say when its budget begins anew; absent: never."""

    EVERY = "every"  # seconds as digits, or MONTHLY
    RESET_AT = "reset_at"  # Unix seconds on Redis' clock: when the next period begins


class SpendField(StrEnum):
    """Fields of an account's hash that the roll-up adds to; all integers."""

    COST = "cost"  # pico-dollars, ever
    PERIOD_COST = "period_cost"  # pico-dollars in the current budget period
    REQUESTS = "requests"
    USED = "used"  # tokens, as the four columns of the ledger
    PAID = "paid"
    SAVED = "saved"
    WASTE = "waste"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much an account may use; None is no limit."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budget_pico_usd: int | None = None
    budget_every: str | None = None  # seconds as digits, MONTHLY, or None: for good
    budget_duration: str | None = None  # the same in the words it was given in

    @property
    def are_any(self) -> bool:
        """Whether anything is limited, so that requests have to be admitted."""
        return any(
            limit is not None for limit in (self.rpm, self.tpm, self.parallel, self.budget_pico_usd)
        )

    @property
    def need_tokens(self) -> bool:
        """Whether a request's tokens have to be counted before it is admitted."""
        return self.tpm is not None or self.budget_pico_usd is not None


class TeamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A team: bounds all keys that belong to it."""

    id: str
    alias: str | None = None
    models: tuple[str, ...] = ()  # () is all
    limits: Limits = Limits()
    is_blocked: bool = False
    share_across: str | None = None
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    created_at: float = 0.0  # Unix seconds
    updated_at: float = 0.0


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A user: bounds all keys that belong to it."""

    id: str
    alias: str | None = None
    email: str | None = None
    models: tuple[str, ...] = ()
    limits: Limits = Limits()
    is_blocked: bool = False
    metadata: dict[str, Any] = {}
    created_at: float = 0.0
    updated_at: float = 0.0


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual key; its secret part is nowhere, only a keyed digest of it."""

    id: str  # random, stays when the key is rotated
    digest: str  # HMAC of the key's SHA-256, in hex
    name: str  # fit to be shown: sk-ep-…abcd
    alias: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    models: tuple[str, ...] = ()  # names or patterns with `*`; () is all
    limits: Limits = Limits()
    soft_budget_pico_usd: int | None = None
    expires_at: float | None = None  # Unix seconds on Redis' clock
    is_blocked: bool = False
    share_across: str | None = None
    default_class: str | None = None  # interactive or bulk
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    created_at: float = 0.0
    updated_at: float = 0.0


R = TypeVar("R", KeyRecord, TeamRecord, UserRecord)


def record_of(kind: type[R], raw: bytes) -> R:
    """Read a record; raises `InternalError` for what is none."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        raise InternalError(f"a {kind.__name__} in Redis cannot be read") from None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of the holder of a virtual key."""

    key: KeyRecord
    team: TeamRecord | None = None
    user: UserRecord | None = None
    read_at: float = 0.0  # Unix seconds on Redis' clock: what `expires_at` is compared with
    key_cost_pico_usd: int = 0  # spent so far, for x-litellm-key-spend

    def limited(self) -> tuple[tuple[str, Limits], ...]:
        """List the accounts with limits, in the order in which they are admitted."""
        records = (
            (AccountKind.KEY, self.key),
            (AccountKind.TEAM, self.team),
            (AccountKind.USER, self.user),
        )
        return tuple(
            (account_name(kind, record.id), record.limits)
            for kind, record in records
            if record is not None and record.limits.are_any
        )
