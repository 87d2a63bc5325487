"""Who has logged in to the status page: a signed cookie that says until when. Pure.

The signature covers the master key as well, so a new one ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final

from typing_extensions import override

if TYPE_CHECKING:
    from embedpool_shared.sealing import Secrets

COOKIE: Final = "embedpool_status"
PATH: Final = "/pool"
LIFE_S: Final = 12 * 3_600
"""Counted on the api's own clock: a few seconds between hosts are nothing to hours."""
MAX_COOKIE_LETTERS: Final = 256


class Sessions:
    """Opens sessions for whoever has the master key, and knows them again."""

    def __init__(self, master_key: str, secrets: Secrets) -> None:
        """Keep the key's digest only."""
        self._master_digest = _digest(master_key.encode())
        self._secrets = secrets

    def is_master(self, key: bytes) -> bool:
        """Say whether this is the master key, in the same time whatever it is."""
        return hmac.compare_digest(_digest(key), self._master_digest)

    def begin(self, *, now_s: float, nonce: str) -> str:
        """Write the cookie of a session that begins now; a nonce is random and has no dots."""
        said = f"{int(now_s) + LIFE_S}.{nonce}"
        return f"{said}.{urlsafe_b64encode(self._secrets.sign(self._bound(said))).decode()}"

    def is_open(self, cookie: str, *, now_s: float) -> bool:
        """Say whether this is the cookie of a session that goes on; anything else is none."""
        said, _, signature = cookie.rpartition(".")
        until_s, _, _ = said.partition(".")
        if len(cookie) > MAX_COOKIE_LETTERS or not (until_s.isascii() and until_s.isdigit()):
            return False
        try:
            given = urlsafe_b64decode(signature.encode("ascii"))
        except ValueError:  # not base64, or not ASCII
            return False
        return self._secrets.is_signed(self._bound(said), given) and now_s < int(until_s)

    def _bound(self, said: str) -> bytes:
        return self._master_digest + said.encode()

    @override
    def __repr__(self) -> str:
        """Show nothing."""
        return f"{type(self).__name__}(…)"


def cookie_header(cookie: str, *, is_secure: bool) -> str:
    """Write `Set-Cookie` for a session; an empty cookie ends the one there is."""
    life_s = LIFE_S if cookie else 0
    secure = "; Secure" if is_secure else ""
    return f"{COOKIE}={cookie}; Path={PATH}; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
