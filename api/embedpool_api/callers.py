"""Who is calling: who pays, what is allowed, and with whom the texts may travel.

Invariants
- A credential is compared whole, by digest and in constant time; it is in no error and no repr.
- Every credential but the master key is looked up, an unknown one like a known one.
- Only what nobody knows here is ever handed to a provider: no key of ours, good or bad, is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from embedpool_api.credentials import INVALID, credential, refuse_strangers
from embedpool_shared.accounts import AccountKind, Identity, Limits, account_name
from embedpool_shared.errors import InvalidApiKey, RouteNotAllowed
from embedpool_shared.grants import Grant, is_granted, narrowing
from embedpool_shared.jobs import LaneClass

MAX_CALLERS: Final = 10_000
ACROSS_ALL: Final = "all"
ACROSS_TEAM: Final = "team"
CLASSES: Final[Mapping[str | None, LaneClass]] = {"bulk": LaneClass.BULK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, who pays, and what is allowed."""

    account: str  # who pays: the account of its usage records
    is_admin: bool = False
    scope: str = ""  # whose texts may share a call with this caller's; "" everybody's
    models: tuple[Grant, ...] = ()  # each has to grant a model; () is all models
    identity: Identity | None = field(default=None, repr=False)  # of a virtual key
    credential: bytes | None = field(default=None, repr=False)  # the caller's own provider key
    default_class: LaneClass = LaneClass.INTERACTIVE
    limited: tuple[tuple[str, Limits], ...] = ()  # the accounts that admit its requests, in order
    payers: tuple[str, ...] = ()  # accounts charged beside `account`: its team's, its user's
    tags: tuple[str, ...] = ()  # every request's, whatever it adds
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def may_use(self, model: str) -> bool:
        """Say whether this caller may name `model`."""
        return all(is_granted(model, grant) for grant in self.models)


ANYBODY: Final = Caller(account=account_name(AccountKind.CALLER, "open"))
MASTER: Final = Caller(account=account_name(AccountKind.CALLER, "master"), is_admin=True)


def require_admin(caller: Caller) -> None:
    """Raise `RouteNotAllowed` unless the master key was sent."""
    if not caller.is_admin:
        raise RouteNotAllowed("Only the master key may use this route")


def require_own(caller: Caller) -> None:
    """Raise `RouteNotAllowed` for a caller with a provider's key: it may embed, and no more."""
    if caller.credential is not None:
        raise RouteNotAllowed("A provider's own key may only be used for embeddings")


def key_holder(identity: Identity, *, share_across: str = ACROSS_ALL) -> Caller:
    """Describe the holder of a virtual key; the key's word counts before its team's and ours."""
    key, team, user = identity.key, identity.team, identity.user
    account = account_name(AccountKind.KEY, key.id)
    owner = None if team is None else account_name(AccountKind.TEAM, team.id)
    payer = None if user is None else account_name(AccountKind.USER, user.id)
    return Caller(
        account=account,
        scope=_scope(
            key.share_across or (team and team.share_across) or share_across,
            account=account,
            team=owner,
        ),
        models=narrowing(record.models for record in (key, team, user) if record is not None),
        identity=identity,
        default_class=CLASSES.get(key.default_class, LaneClass.INTERACTIVE),
        limited=identity.limited(),
        payers=tuple(name for name in (owner, payer) if name is not None),
        tags=(*key.tags, *(team.tags if team else ())),
        metadata=key.metadata,
    )


def _scope(across: str, *, account: str, team: str | None) -> str:
    if across == ACROSS_ALL:
        return ""
    # A key without a team is a team of its own.
    return team if across == ACROSS_TEAM and team is not None else account


async def nobody(_: bytes) -> Identity | None:
    """Find nobody: there are no virtual keys."""
    return None


class Gate:
    """Tells callers apart by their headers."""

    def __init__(
        self,
        master_key: str | None,
        *,
        find: Callable[[bytes], Awaitable[Identity | None]] = nobody,
        own_key_holder: Callable[[bytes, str], Caller | None] | None = None,
        share_across: str = ACROSS_ALL,
    ) -> None:
        """Without a master key everybody on this machine is let in.

        `find` says whose virtual key it is and raises `InvalidApiKey` for one that is not good any
        more; `own_key_holder` describes the holder of a provider's key, where that is allowed.
        """
        self._master_digest = None if not master_key else _digest(master_key.encode())
        self._find = find
        self._own_key_holder = own_key_holder
        self._share_across = share_across
        self._anybody = _apart(ANYBODY, share_across)
        self._master = _apart(MASTER, share_across)
        self._holders: dict[str, Caller] = {}

    async def identify(self, headers: Mapping[bytes, bytes], address: str = "") -> Caller:
        """Say who sent these headers (names in lower case) from `address`.

        Raises `InvalidApiKey`, `BadRequest` for two keys, and `QueueUnavailable` when nobody can
        say whose key it is.
        """
        is_open = self._master_digest is None
        if is_open:
            refuse_strangers(headers)
            if self._own_key_holder is None:
                return self._anybody
        key = credential(headers)
        if key is None and is_open:
            return self._anybody
        if key is None:
            raise InvalidApiKey(f"{INVALID}: none was sent; use 'Authorization: Bearer …'")
        if self._is_master(key):
            return self._master
        identity = await self._find(key)
        if identity is not None:
            return self._holder(identity)
        stranger = self._own_key_holder(key, address) if self._own_key_holder else None
        if stranger is None:
            raise InvalidApiKey(INVALID)
        return stranger

    def _is_master(self, key: bytes) -> bool:
        digest = self._master_digest
        return digest is not None and hmac.compare_digest(_digest(key), digest)

    def _holder(self, identity: Identity) -> Caller:
        """Describe the holder anew only when what is known of it was read anew."""
        holder = self._holders.get(identity.key.id)
        if holder is None or holder.identity is not identity:
            if len(self._holders) >= MAX_CALLERS:
                self._holders.clear()
            holder = key_holder(identity, share_across=self._share_across)
            self._holders[identity.key.id] = holder
        return holder


def _apart(caller: Caller, share_across: str) -> Caller:
    """Keep the texts of callers without a virtual key among themselves, where that is wanted."""
    return caller if share_across == ACROSS_ALL else replace(caller, scope=caller.account)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
