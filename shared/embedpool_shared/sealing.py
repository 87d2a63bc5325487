"""What the secret is for: digests of credentials, ciphertexts that carry them, signatures. Pure.

Each use has a key of its own, all derived (HKDF-SHA256): knowing one tells nothing of the others.
Older secrets still open what they sealed and find what they named, so a secret can be rotated.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from typing_extensions import override

from embedpool_shared.errors import PoolError

NONCE_BYTES: Final = 12
_ID_BYTES: Final = 4
_DIGEST: Final = b"embedpool digest 1"
_SEAL: Final = b"embedpool seal 1"
_CACHE: Final = b"embedpool cache 1"
_COOKIE: Final = b"embedpool cookie 1"


class SealBroken(PoolError):
    """A ciphertext was not made by a secret we have, or not for this place."""


class Secrets:
    """The current secret and the older ones still good for reading."""

    def __init__(self, current: str, older: Sequence[str] = ()) -> None:
        """Derive the keys; `current` and `older` are not kept."""
        secrets = [current, *older]
        self._digest_keys = [_derived(secret, _DIGEST) for secret in secrets]
        self._cache_key = _derived(current, _CACHE)
        self._cookie_key = _derived(current, _COOKIE)
        self._seals = {}
        for secret in reversed(secrets):
            key = _derived(secret, _SEAL)
            self._seals[_seal_id(key)] = AESGCM(key)
        self._seal_id = _seal_id(_derived(current, _SEAL))

    def digest(self, credential: bytes) -> str:
        """Name a credential under the current secret, in hex."""
        return self.digests(credential)[0]

    def digests(self, credential: bytes) -> list[str]:
        """Name a credential under every secret, the current one first.

        Of the SHA-256, so that keys can be taken over from a store that keeps only that.
        """
        plain = hashlib.sha256(credential).digest()
        return [hmac.new(key, plain, hashlib.sha256).hexdigest() for key in self._digest_keys]

    def cache_digest(self, content: bytes) -> str:
        """Name cached content, so that a name cannot be guessed from a text; 64 hex digits."""
        return hashlib.blake2b(content, key=self._cache_key, digest_size=32).hexdigest()

    def sign(self, content: bytes) -> bytes:
        """Sign what a browser keeps for us; 32 bytes."""
        return hmac.new(self._cookie_key, content, hashlib.sha256).digest()

    def is_signed(self, content: bytes, signature: bytes) -> bool:
        """Say whether the current secret signed that; an older one's signatures end with it."""
        return hmac.compare_digest(self.sign(content), signature)

    def seal(self, plain: bytes, *, place: str, nonce: bytes) -> bytes:
        """Encrypt `plain` for `place` alone; a nonce is `NONCE_BYTES` random bytes, used once."""
        sealed = self._seals[self._seal_id].encrypt(nonce, plain, place.encode())
        return self._seal_id + nonce + sealed

    def opened(self, sealed: bytes, *, place: str) -> bytes:
        """Decrypt what was sealed for `place`; raises `SealBroken`."""
        cipher = self._seals.get(sealed[:_ID_BYTES])
        nonce = sealed[_ID_BYTES : _ID_BYTES + NONCE_BYTES]
        if cipher is None or len(nonce) < NONCE_BYTES:
            raise SealBroken("sealed by another secret: api and worker need the same one")
        try:
            return cipher.decrypt(nonce, sealed[_ID_BYTES + NONCE_BYTES :], place.encode())
        except InvalidTag:
            raise SealBroken("sealed for another job, or changed") from None

    @override
    def __repr__(self) -> str:
        """Show nothing."""
        return f"{type(self).__name__}(…)"


def _derived(secret: str, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=use).derive(secret.encode())


def _seal_id(key: bytes) -> bytes:
    """Tell the secrets apart without telling anything about them."""
    return hashlib.sha256(b"id" + key).digest()[:_ID_BYTES]


def job_place(pack_id: str, number: int) -> str:
    """Say which job a credential is sealed for."""
    return f"job:{pack_id}:{number}"
