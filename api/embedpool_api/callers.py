"""Who is calling: nobody in particular on this machine, or the holder of the master key.

Invariants
- A credential is compared whole, by digest and in constant time; it is in no error and no repr.
- Without a master key only this machine is answered: by a loopback name, through no proxy.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embedpool_shared.errors import BadRequest, InvalidApiKey

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_MASTER_KEY_LETTERS: Final = 12
PLACEHOLDERS: Final = frozenset(
    {
        "administrator",
        "change-me-please",
        "change-this-key",
        "changeme",
        "changemeplease",
        "my-master-key",
        "my-secret-key",
        "password1234",
        "placeholder-key",
        "replace-me-please",
        "sk-1234",
        "sk-12345",
        "sk-123456",
        "sk-1234567890",
        "sk-change-me-please",
        "sk-litellm-master-key",
        "sk-master-key",
        "sk-my-master-key",
        "sk-your-master-key",
        "sk-your-secret-key",
        "super-secret-key",
        "supersecretkey",
        "your-master-key",
        "your-secret-key",
    }
)
"""Keys that stand in documents and examples."""


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
    if not is_loopback(_host_name(headers.get(b"host", b""))):
        raise InvalidApiKey(
            "Without a master key embedpool answers only as localhost or 127.0.0.1; "
            "set EMBEDPOOL_MASTER_KEY to be reached by another name"
        )
    if any(name == b"forwarded" or name.startswith(b"x-forwarded-") for name in headers):
        raise InvalidApiKey(
            "Without a master key embedpool answers no request that came through a proxy; "
            "set EMBEDPOOL_MASTER_KEY and send it as a bearer token"
        )


def is_loopback(host: str) -> bool:
    """Say whether `host`, a name or an address, means this machine and nobody else."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_mode_refusal(host: str) -> str | None:
    """Say why embedpool must not listen on `host` without a master key; None where it may."""
    if is_loopback(host):
        return None
    return (
        f"refusing to listen on {host or 'every address'} without a master key: anybody who "
        "reaches it could spend your providers' money. Set EMBEDPOOL_MASTER_KEY (or "
        "general_settings.master_key), or listen on 127.0.0.1"
    )


def weakness(master_key: str) -> str | None:
    """Say what makes `master_key` easy to guess, without repeating it; None for nothing known."""
    if master_key.strip().lower().replace("_", "-") in PLACEHOLDERS:
        return "it is a placeholder that stands in public documents"
    if len(master_key) < MIN_MASTER_KEY_LETTERS:
        return f"it is shorter than {MIN_MASTER_KEY_LETTERS} letters"
    if len(set(master_key.removeprefix("sk-"))) < 4:
        return "it repeats a few letters"
    return None


def _bearer(authorization: bytes) -> bytes | None:
    scheme, _, key = authorization.strip().partition(b" ")
    if scheme and scheme.lower() != b"bearer":
        raise InvalidApiKey("Invalid API key: use 'Authorization: Bearer …'")
    return key.strip() or None


def _host_name(host: bytes) -> str:
    """Take the port off `Host`, and the brackets off an IPv6 address."""
    text = host.decode("latin-1").strip()
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        return name if not rest or rest.startswith(":") else ""
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
