"""Who is calling: nobody in particular on this machine, or the holder of the master key.

Invariants
- A credential is compared whole, by digest and in constant time; it is in no error and no repr.
- Without a master key only this machine is answered: by a loopback name, through no proxy.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from embedpool_shared.errors import BadRequest, InvalidApiKey
from embedpool_shared.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, who pays, and what is allowed."""

    account: str  # who pays: the account of its usage records
    is_admin: bool = False
    scope: str = ""  # whose texts may share a call with this caller's; "" everybody's
    models: frozenset[str] | None = None  # None: all of them

    def may_use(self, model: str) -> bool:
        """Say whether this caller may name `model`."""
        return self.models is None or model in self.models


ANYBODY: Final = Caller(account="open")
MASTER: Final = Caller(account="master", is_admin=True)


class Gate:
    """Tells callers apart by their headers."""

    def __init__(self, master_key: str | None) -> None:
        """Without a master key everybody on this machine is let in."""
        self._master_digest = None if not master_key else _digest(master_key.encode())

    async def identify(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Say who sent these headers (names in lower case); raises `InvalidApiKey`."""
        if self._master_digest is None:
            refuse_strangers(headers)
            return ANYBODY
        key = credential(headers)
        if key is None:
            raise InvalidApiKey("Invalid API key: none was sent; use 'Authorization: Bearer …'")
        if not hmac.compare_digest(_digest(key), self._master_digest):
            raise InvalidApiKey("Invalid API key")
        return MASTER


def credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Read the key from `Authorization: Bearer` or Azure's `api-key`; an empty one is none.

    Raises `BadRequest` when the two differ, and `InvalidApiKey` for another scheme.
    """
    bearer = _bearer(headers.get(b"authorization", b""))
    api_key = headers.get(b"api-key", b"").strip() or None
    if bearer is not None and api_key is not None and bearer != api_key:
        raise BadRequest("`Authorization` and `api-key` carry different keys; send one of them")
    return bearer or api_key


def refuse_strangers(headers: Mapping[bytes, bytes]) -> None:
    """Raise `InvalidApiKey` unless this machine asks, by a name no stranger's page can have."""
    if not _names_this_machine(headers.get(b"host", b"")):
        raise InvalidApiKey(
            "Without a master key embedpool answers only as localhost or 127.0.0.1; "
            "set EMBEDPOOL_MASTER_KEY to be reached by another name"
        )
    if any(name == b"forwarded" or name.startswith(b"x-forwarded-") for name in headers):
        raise InvalidApiKey(
            "Without a master key embedpool answers no request that came through a proxy; "
            "set EMBEDPOOL_MASTER_KEY and send it as a bearer token"
        )
    origin = headers.get(b"origin")
    if origin is not None and not _names_this_machine(origin.rpartition(b"//")[2]):
        # Reading the answer is CORS' affair; spending the operator's money would be done by then.
        raise InvalidApiKey(
            "Without a master key embedpool answers no other site's pages; "
            "set EMBEDPOOL_MASTER_KEY and send it as a bearer token"
        )


def _bearer(authorization: bytes) -> bytes | None:
    scheme, _, key = authorization.strip().partition(b" ")
    if scheme and scheme.lower() != b"bearer":
        raise InvalidApiKey("Invalid API key: use 'Authorization: Bearer …'")
    return key.strip() or None


@lru_cache(maxsize=64)
def _names_this_machine(host: bytes) -> bool:
    return is_loopback(_host_name(host))


def _host_name(host: bytes) -> str:
    """Take the port off `Host`, and the brackets off an IPv6 address."""
    text = host.decode("latin-1").strip()
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        return name if bracket and (not rest or rest.startswith(":")) else ""
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
