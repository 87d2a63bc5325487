"""The signed word of a Google service account, exchanged for an access token (RFC 7523). Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
GOOD_FOR_S: Final = 3_600


def assertion(account: Mapping[str, Any], *, audience: str, now_unix_s: int) -> str:
    """Write and sign it; raises KeyError for a missing field, ValueError or TypeError for no key.

    `account` is the JSON file that Google issues for a service account.
    """
    key = serialization.load_pem_private_key(str(account["private_key"]).encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("not an RSA key")
    head = {"alg": "RS256", "typ": "JWT", "kid": account.get("private_key_id")}
    claims = {
        "iss": account["client_email"],
        "scope": SCOPE,
        "aud": account.get("token_uri") or audience,
        "iat": now_unix_s,
        "exp": now_unix_s + GOOD_FOR_S,
    }
    said = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(claims).encode())}"
    signature = key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{said}.{_part(signature)}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
