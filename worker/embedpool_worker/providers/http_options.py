"""How adapters reach the outside: proxy, certificates, how much they read."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_ANSWER_BYTES: Final = 128 * 1024 * 1024
"""2,048 vectors of 3,072 JSON floats are 75 MB; nothing honest is much larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """The operator's `http` settings; the environment's proxies are never used."""

    proxy: str | None = None
    ca_file: str | None = None
    max_answer_bytes: int = MAX_ANSWER_BYTES

    def ssl_context(self) -> ssl.SSLContext:
        """The trust every adapter shares: the system's, and `ca_file` on top.

        Raises OSError (ssl.SSLError is one) for a file that holds no certificates.
        """
        return _trust(self.ca_file)


@lru_cache(maxsize=8)
def _trust(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()  # 20 ms: not once per deployment
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context
