"""What a request shows to be let in: a key, or that it comes from this machine. Pure.

Without a master key only this machine is answered: by a loopback name, through no proxy.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from embedpool_shared.errors import BadRequest, InvalidApiKey
from embedpool_shared.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CREDENTIAL_BYTES: Final = 4_096
"""The longest are signed tokens of clouds, of some three kilobytes."""
INVALID: Final = "Invalid API key"
"""How every refusal of a credential begins."""


def credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Read the key from `Authorization: Bearer` or Azure's `api-key`; an empty one is none.

    Raises `BadRequest` when the two differ, and `InvalidApiKey` for another scheme or a key
    longer than any is.
    """
    bearer = _bearer(headers.get(b"authorization", b""))
    api_key = headers.get(b"api-key", b"").strip() or None
    if bearer is not None and api_key is not None and bearer != api_key:
        raise BadRequest("`Authorization` and `api-key` carry different keys; send one of them")
    key = bearer or api_key
    if key is not None and len(key) > MAX_CREDENTIAL_BYTES:
        raise InvalidApiKey(f"{INVALID}: it is longer than {MAX_CREDENTIAL_BYTES} bytes")
    return key


def refuse_strangers(headers: Mapping[bytes, bytes]) -> None:
    """Raise `InvalidApiKey` unless this machine asks, by a name no stranger's page can have."""
    if not _names_this_machine(headers.get(b"host", b"")):
        raise InvalidApiKey(
            "Without a master key embedpool answers only as localhost or 127.0.0.1; "
            "set EMBEDPOOL_MASTER_KEY to be reached by another name"
        )
    if b"forwarded" in headers or b"\nx-forwarded-" in b"\n" + b"\n".join(headers):
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
        raise InvalidApiKey(f"{INVALID}: use 'Authorization: Bearer …'")
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
