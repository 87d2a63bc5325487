"""The bodies of the routes about virtual keys."""

from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BeforeValidator, Field

from embedpool_api.accounts.durations import expires_at
from embedpool_api.accounts.foreign_fields import refuse_foreign
from embedpool_api.accounts.money import pico_usd
from embedpool_api.routes.bodies import (
    AdminBody,
    Dollars,
    Metadata,
    Models,
    Name,
    OptionalName,
    Sharing,
    Tags,
    Words,
    blank_is_none,
)
from embedpool_api.routes.limit_fields import LimitFields
from embedpool_shared.accounts import KeyRecord

Class = Annotated[Literal["interactive", "bulk"] | None, BeforeValidator(blank_is_none)]
Key = Annotated[str, Field(min_length=1, max_length=256)]


class KeyFields(LimitFields):
    """What can be said of a virtual key; absent is as before, null is none."""

    key_alias: OptionalName = Field(None, description="A name no other key has.")
    duration: Words = Field(
        None, description="How long it is good for; -1 is for ever.", examples=["30d"]
    )
    models: Models | None = Field(None, description="Names and patterns; none is all models.")
    soft_budget: Dollars | None = Field(None, description="Dollars; only kept, bounds nothing.")
    team_id: OptionalName = None
    user_id: OptionalName = Field(None, description="A user nobody has heard of is made.")
    metadata: Metadata | None = Field(None, description="Kept with its usage records.")
    tags: Tags | None = Field(None, description="Under which its spend is counted as well.")
    blocked: bool | None = None
    share_across: Sharing = Field(None, description="Whose texts may share a call with its own.")
    default_class: Class = Field(None, description="How its requests wait by default.")

    def edited(self, record: KeyRecord, now_s: float) -> KeyRecord:
        """Apply what was given to a record; raises `BadRequest`."""
        given = self.model_fields_set
        changes: dict[str, Any] = {
            ours: getattr(self, theirs) for theirs, ours in _SAME.items() if theirs in given
        }
        changes |= {
            name: tuple(getattr(self, name) or ()) for name in ("models", "tags") if name in given
        }
        if "metadata" in given:
            changes["metadata"] = self.metadata or {}
        if "soft_budget" in given:
            budget = self.soft_budget
            changes["soft_budget_pico_usd"] = None if budget is None else pico_usd(budget)
        if self.blocked is not None:
            changes["is_blocked"] = self.blocked
        if self.duration is not None:
            changes["expires_at"] = expires_at(self.duration, now_s=now_s)
        return msgspec.structs.replace(record, limits=self.limits(record.limits), **changes)

    def checked(self) -> None:
        """Raise `BadRequest` for a field that embedpool cannot keep to or does not know."""
        refuse_foreign(self.model_extra or {}, type(self).model_fields)


class GenerateBody(KeyFields):
    """POST /key/generate."""

    key: Annotated[Key | None, BeforeValidator(blank_is_none)] = Field(
        None, description="A key of your own; without one it is made, so that nobody can guess it."
    )


class UpdateBody(KeyFields):
    """POST /key/update."""

    key: Key = Field(description="The key itself, its token or its token_id.")


class RegenerateBody(KeyFields):
    """POST /key/regenerate."""

    key: Annotated[Key | None, BeforeValidator(blank_is_none)] = Field(
        None, description="The key itself, its token or its token_id; the path may name it."
    )
    new_key: Annotated[Key | None, BeforeValidator(blank_is_none)] = Field(
        None, description="A key of your own to put in its place."
    )


class OneKeyBody(AdminBody):
    """POST /key/block and /key/unblock."""

    key: Key = Field(description="The key itself, its token or its token_id.")


class DeleteBody(AdminBody):
    """POST /key/delete."""

    keys: Annotated[list[Key] | None, Field(max_length=1_000)] = None
    key_aliases: Annotated[list[Name] | None, Field(max_length=1_000)] = None


_SAME: Final = {
    "key_alias": "alias",
    "team_id": "team_id",
    "user_id": "user_id",
    "share_across": "share_across",
    "default_class": "default_class",
}
