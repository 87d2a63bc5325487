"""What an administrator's routes are given, and who may use them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from embedpool_api.accounts.spend_log import SpendLog
from embedpool_api.accounts.store import Accounts
from embedpool_api.callers import Caller, require_own
from embedpool_api.middleware import HEADERS
from embedpool_shared.catalog import Catalog
from embedpool_shared.errors import RouteNotAllowed


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminParts:
    """The running pieces behind an administrator's routes."""

    accounts: Accounts
    spend_log: SpendLog
    identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]]
    """Tells the caller by its headers; `Gate.identify` is one."""
    catalog: Callable[[], Catalog | None]
    has_master_key: bool
    """Without one nobody can be told from anybody else, and nothing can be changed."""


async def administrator(parts: AdminParts, request: Request) -> Caller:
    """Say who asks; raises `RouteNotAllowed` unless it sent the master key."""
    caller = await parts.identify(request.scope[HEADERS])
    if caller.is_admin:
        return caller
    if not parts.has_master_key:
        raise RouteNotAllowed(
            "Without a master key there is no administrator: set general_settings.master_key or "
            "EMBEDPOOL_MASTER_KEY, and send it as a bearer token"
        )
    raise RouteNotAllowed("Only the master key may use this route")


async def reader(parts: AdminParts, request: Request) -> Caller:
    """Say who asks to see what everybody spends; open mode lets this machine look.

    Raises `RouteNotAllowed` for anybody else without the master key.
    """
    caller = await parts.identify(request.scope[HEADERS])
    require_own(caller)
    if not parts.has_master_key or caller.is_admin:
        return caller
    raise RouteNotAllowed("Only the master key may use this route")


async def anybody(parts: AdminParts, request: Request) -> Caller:
    """Say who asks; raises `RouteNotAllowed` for a caller with a provider's own key."""
    caller = await parts.identify(request.scope[HEADERS])
    require_own(caller)
    return caller


def instant(unix_s: float | None) -> str | None:
    """Show a time as LiteLLM does: ISO 8601, UTC."""
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat()
