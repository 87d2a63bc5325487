"""What an administrator is shown of an account, under LiteLLM's names."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from embedpool_api.accounts.kept import Kept
from embedpool_api.accounts.money import in_dollars
from embedpool_api.routes.limit_fields import shown_limits
from embedpool_shared.accounts import KeyRecord, TeamRecord, UserRecord


class AccountObject(BaseModel):
    """What every account has."""

    models: list[str] = Field(description="Names and patterns; none is all models.")
    tpm_limit: int | None
    rpm_limit: int | None
    max_parallel_requests: int | None
    max_budget: float | None = Field(description="Dollars.")
    budget_duration: str | None
    budget_reset_at: datetime | None
    spend: float = Field(description="Dollars, ever.")
    budget_spend: float = Field(description="Dollars in the budget's current period.")
    total_tokens: int
    requests: int
    blocked: bool
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class KeyObject(AccountObject):
    """A virtual key, without what makes it work."""

    token: str = Field(description="Names the key everywhere; changes when it is rotated.")
    token_id: str = Field(description="Names the key for ever.")
    key_name: str = Field(examples=["sk-ep-...3bTk"])
    key_alias: str | None
    expires: datetime | None
    soft_budget: float | None
    team_id: str | None
    user_id: str | None
    tags: list[str]
    share_across: str | None
    default_class: str | None


class NewKey(KeyObject):
    """A virtual key that was just made; it is shown this once."""

    key: str = Field(examples=["sk-ep-Yb0q…3bTk"])


class TeamObject(AccountObject):
    """A team."""

    team_id: str
    team_alias: str | None
    tags: list[str]
    share_across: str | None


class UserObject(AccountObject):
    """A user."""

    user_id: str
    user_alias: str | None
    user_email: str | None


def shown_key(kept: Kept[KeyRecord]) -> KeyObject:
    """Show a key."""
    return KeyObject.model_validate(_key_fields(kept))


def shown_new_key(kept: Kept[KeyRecord], key: str) -> NewKey:
    """Show a key that was just made or rotated, and the key itself."""
    return NewKey.model_validate({**_key_fields(kept), "key": key})


def shown_team(kept: Kept[TeamRecord]) -> TeamObject:
    """Show a team."""
    record = kept.record
    own = {
        "team_id": record.id,
        "team_alias": record.alias,
        "tags": record.tags,
        "share_across": record.share_across,
    }
    return TeamObject.model_validate(_common(record) | shown_limits(kept) | own)


def shown_user(kept: Kept[UserRecord]) -> UserObject:
    """Show a user."""
    record = kept.record
    own = {"user_id": record.id, "user_alias": record.alias, "user_email": record.email}
    return UserObject.model_validate(_common(record) | shown_limits(kept) | own)


def _key_fields(kept: Kept[KeyRecord]) -> dict[str, Any]:
    record = kept.record
    soft = record.soft_budget_pico_usd
    own = {
        "token": record.digest,
        "token_id": record.id,
        "key_name": record.name,
        "key_alias": record.alias,
        "expires": record.expires_at,
        "soft_budget": None if soft is None else in_dollars(soft),
        "team_id": record.team_id,
        "user_id": record.user_id,
        "tags": record.tags,
        "share_across": record.share_across,
        "default_class": record.default_class,
    }
    return _common(record) | shown_limits(kept) | own


def _common(record: KeyRecord | TeamRecord | UserRecord) -> dict[str, Any]:
    return {
        "models": record.models,
        "blocked": record.is_blocked,
        "metadata": record.metadata,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
