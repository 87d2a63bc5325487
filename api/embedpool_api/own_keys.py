"""Callers that bring a provider's key of their own, where the configuration lets them. Pure.

Such a caller is known by the digest of its key alone; it is limited together with all others of
its kind, and by the address it comes from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from embedpool_api.callers import Caller
from embedpool_shared.accounts import AccountKind, Limits, account_name
from embedpool_shared.errors import ConfigInvalid

if TYPE_CHECKING:
    from embedpool_shared.config.settings import AuthSettings
    from embedpool_shared.sealing import Secrets

SHOWN_DIGITS: Final = 16
ALL_OWN_KEYS: Final = account_name(AccountKind.PASSTHROUGH, "all")
ADDRESS: Final = "address"
"""The kind of account that only ever has a limit: no record and no spend."""
SITE_BITS: Final = 64
"""What of an IPv6 address is assigned to a site; the rest its hosts choose as they like."""

_is_bearer_token = re.compile(rb"[A-Za-z0-9._~+/-]+=*").fullmatch
"""As RFC 6750 defines it: nothing that could end a header, and no quotes around a key of ours."""


def own_key_holders(
    auth: AuthSettings, secrets: Secrets | None
) -> Callable[[bytes, str], Caller | None] | None:
    """Make what describes the holder of a provider's key; None where such keys are not allowed.

    What it makes says None of a key that begins as ours do, and of what no provider would issue.
    """
    if not auth.allow_passthrough_keys:
        return None
    if secrets is None:
        raise ConfigInvalid("auth.allow_passthrough_keys needs a secret: set EMBEDPOOL_SECRET")
    prefixes = tuple(prefix.encode() for prefix in (auth.key_prefix, *auth.accepted_prefixes))
    together = Limits(rpm=auth.passthrough_rpm)
    alone = Limits(rpm=auth.passthrough_rpm_per_address)

    def holder(credential: bytes, address: str) -> Caller | None:
        if credential.startswith(prefixes) or not _is_bearer_token(credential):
            return None
        digest = secrets.digest(credential)
        place = secrets.digest(site_of(address).encode())[:SHOWN_DIGITS]
        return Caller(
            account=account_name(AccountKind.PASSTHROUGH, digest[:SHOWN_DIGITS]),
            scope=account_name(AccountKind.PASSTHROUGH, digest),
            credential=credential,
            limited=((ALL_OWN_KEYS, together), (f"{ADDRESS}:{place}", alone)),
        )

    return holder


@lru_cache(maxsize=1_024)
def site_of(address: str) -> str:
    """Say what one customer of a network shares: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, SITE_BITS), strict=False))
