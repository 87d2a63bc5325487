"""Whether a batch may still go on: its key, that key's team and user, read again and again.

What holds for requests holds for a batch's lines, from one window to the next: a key that is gone,
blocked or expired, a model that was withdrawn, a budget that is used up. How fast a key may be does
not: a batch takes the time it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from embedpool_shared.accounts import (
    PICO_PER_USD,
    RECORD,
    AccountKind,
    KeyRecord,
    PeriodField,
    SpendField,
    TeamRecord,
    UserRecord,
    account_name,
    record_of,
)
from embedpool_shared.errors import (
    BudgetExceeded,
    EmbedPoolError,
    InternalError,
    InvalidApiKey,
    ModelNotAllowed,
)
from embedpool_shared.grants import is_granted, narrowing
from embedpool_shared.names import Names
from embedpool_shared.redis import Line

FIELDS: Final = (
    RECORD,
    PeriodField.EVERY.value,
    PeriodField.RESET_AT.value,
    SpendField.PERIOD_COST.value,
)
"""What is read of an account's hash, in this order."""
INVALID: Final = "Invalid API key"

R = TypeVar("R", KeyRecord, TeamRecord, UserRecord)
Values = Sequence[bytes | None]


class Account(NamedTuple, Generic[R]):
    """A record, and what was spent in its budget's current period."""

    record: R
    spent_pico_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the key of a batch; None: there is no such account any more."""

    key: Account[KeyRecord] | None
    team: Account[TeamRecord] | None = None
    user: Account[UserRecord] | None = None


class Standing:
    """Asks Redis over a line of its own."""

    def __init__(self, line: Line, names: Names) -> None:
        """Prepare; the first question connects."""
        self._line = line
        self._names = names

    async def refusal(self, key_id: str | None, models: Sequence[str]) -> EmbedPoolError | None:
        """Say why the key may not go on with a model that goes by these names; None: it may.

        A batch without a virtual key always may. Raises `QueueUnavailable`.
        """
        if key_id is None:
            return None
        now, (values,) = await self._read([(AccountKind.KEY, key_id)])
        try:
            key = account(KeyRecord, values, now=now)
            if key is None:
                return refusal(Holder(key=None), models, now=now)
            return refusal(await self._holder(key), models, now=now)
        except InternalError as error:
            return error  # an unreadable record stays so: the lines say so, and the batch ends

    async def _holder(self, key: Account[KeyRecord]) -> Holder:
        team_id, user_id = key.record.team_id, key.record.user_id
        now, (team, user) = await self._read(
            [(AccountKind.TEAM, team_id), (AccountKind.USER, user_id)]
        )
        return Holder(
            key=key,
            team=account(TeamRecord, team, now=now),
            user=account(UserRecord, user, now=now),
        )

    async def _read(
        self, accounts: Iterable[tuple[AccountKind, str | None]]
    ) -> tuple[float, list[Values]]:
        """Read Redis' clock and these accounts; what has no id has no values."""
        names = [
            None if one is None else self._names.account(account_name(kind, one)).account
            for kind, one in accounts
        ]
        (seconds, micros), *found = await self._line.call_all(
            [("TIME",), *(("HMGET", name, *FIELDS) for name in names if name is not None)]
        )
        left = iter(found)
        nothing: Values = [None] * len(FIELDS)
        values = [nothing if name is None else next(left) for name in names]
        return int(seconds) + int(micros) / 1_000_000, values


def account(kind: type[R], values: Values, *, now: float) -> Account[R] | None:
    """Read the values of `FIELDS`; None where there is no record. Raises `InternalError`."""
    raw, every, reset_at, cost = values
    if raw is None:
        return None
    # A period that is over is only begun anew by whoever next admits or adds something.
    is_over = every is not None and reset_at is not None and now >= float(reset_at)
    return Account(record_of(kind, raw), 0 if is_over else int(cost or 0))


def refusal(holder: Holder, models: Iterable[str], *, now: float) -> EmbedPoolError | None:
    """Decide whether the holder of a key may go on with a model that goes by these names."""
    if holder.key is None:
        return InvalidApiKey(f"{INVALID}: it was deleted")
    return (
        _unusable(holder, holder.key.record, now)
        or _withdrawn(holder, holder.key.record, tuple(models))
        or _used_up(holder)
    )


def _unusable(holder: Holder, key: KeyRecord, now: float) -> InvalidApiKey | None:
    team, user = holder.team, holder.user
    reasons = (
        ("it has expired", key.expires_at is not None and now >= key.expires_at),
        ("it is blocked", key.is_blocked),
        ("its team was deleted", key.team_id is not None and team is None),
        ("its team is blocked", team is not None and team.record.is_blocked),
        ("its user was deleted", key.user_id is not None and user is None),
        ("its user is blocked", user is not None and user.record.is_blocked),
    )
    reason = next((words for words, holds in reasons if holds), None)
    return None if reason is None else InvalidApiKey(f"{INVALID}: {reason}")


def _withdrawn(holder: Holder, key: KeyRecord, models: tuple[str, ...]) -> ModelNotAllowed | None:
    """A model may be granted under any of its names, by one name to all of its holders."""
    others = [one.record.models for one in (holder.team, holder.user) if one is not None]
    grants = narrowing([key.models, *others])
    if any(all(is_granted(model, grant) for grant in grants) for model in models):
        return None
    return ModelNotAllowed(f"This key may not use the model `{models[-1]}` any more", param="model")


def _used_up(holder: Holder) -> BudgetExceeded | None:
    accounts = (("key", holder.key), ("team", holder.team), ("user", holder.user))
    for kind, one in accounts:
        budget = None if one is None else one.record.limits.budget_pico_usd
        if one is not None and budget is not None and one.spent_pico_usd >= budget:
            return BudgetExceeded(
                f"Budget used up for {kind}: ${budget / PICO_PER_USD:g}", code="budget_exceeded"
            )
    return None
