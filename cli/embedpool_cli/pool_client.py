"""Asks a running pool over HTTP: one connection for each question, no redirects, no proxies.

Invariants
- The key goes to the address that was named and nowhere else; it is in no error and no repr.
- Whatever happens ends in an answer, `Refused` or `Unreachable`; no step outlasts the patience.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import ECONNABORTED
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

PATIENCE_S: Final = 15.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
NONE: Final[Mapping[str, object]] = {}


class Refused(Exception):
    """The pool understood the question and said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Unreachable(Exception):
    """Nobody answered at the address, or nobody who speaks as the pool does."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class PoolClient:
    """A running pool, as the holder of a key sees it."""

    url: str
    key: str = field(repr=False)
    patience_s: float = PATIENCE_S

    def get(self, path: str, query: Mapping[str, object] = NONE) -> dict[str, Any]:
        """GET a JSON object; parameters that are None are left out."""
        asked = {name: value for name, value in query.items() if value is not None}
        return self._asked("GET", f"{path}?{urlencode(asked)}" if asked else path)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """POST a JSON object and read one."""
        return self._asked("POST", path, json.dumps(body).encode())

    def start_of(self, path: str, *, max_bytes: int) -> bytes:
        """GET the first bytes of what need not be JSON."""
        response, text = self._answer("GET", path, None, max_bytes)
        if response.status != 200:
            self._read(response, text)
        return text[:max_bytes]

    def _asked(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        return self._read(*self._answer(method, path, body, MAX_ANSWER_BYTES))

    def _answer(
        self, method: str, path: str, body: bytes | None, max_bytes: int
    ) -> tuple[HTTPResponse, bytes]:
        """Ask, and read at most one byte more than may come."""
        connection, prefix = self._connection()
        headers = {"authorization": f"Bearer {self.key}", "accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, prefix + path, body, headers)
            response = connection.getresponse()
            text = response.read(max_bytes + 1)
            if response.length and len(text) <= max_bytes:
                # Asked for a number of bytes, http.client does not say that fewer came.
                raise ConnectionAbortedError(ECONNABORTED, "the answer broke off")
        except (OSError, HTTPException, UnicodeError) as error:
            raise Unreachable(self._silence(error)) from None
        finally:
            connection.close()
        return response, text

    def _connection(self) -> tuple[HTTPConnection, str]:
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        host = parts.hostname or ""
        return kind(host, parts.port, timeout=self.patience_s), parts.path.rstrip("/")

    def _silence(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            why = f"no answer within {self.patience_s:g} s"
        elif isinstance(error, HTTPException) and not isinstance(error, OSError):
            why = "what answers there does not speak HTTP"
        else:
            why = getattr(error, "strerror", None) or "the connection failed"
        return f"cannot reach a pool: {why}; is embedpool serve running at {self.url}?"

    def _read(self, response: HTTPResponse, text: bytes) -> dict[str, Any]:
        status = response.status
        if 300 <= status < 400:
            raise Unreachable(
                f"{self.url} leads elsewhere ({status}); name the pool's own address with --url"
            )
        try:
            answer = json.loads(text) if len(text) <= MAX_ANSWER_BYTES else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(
                f"what answers at {self.url} is no embedpool (status {status}, no JSON object)"
            )
        if status >= 400:
            raise Refused(_said(answer) or f"the pool answered with status {status}", status)
        return answer


def _said(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    message = error.get("message") if isinstance(error, Mapping) else None
    return message if isinstance(message, str) else ""
