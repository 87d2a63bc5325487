"""How adapters reach the outside: proxy, certificates, how much they read."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
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
        """Build the trust every adapter uses: the system's, and `ca_file` on top."""
        context = ssl.create_default_context()
        if self.ca_file:
            context.load_verify_locations(cafile=self.ca_file)
        return context
