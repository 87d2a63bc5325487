"""Asks our own api, over its own socket, whether everything behind it is up."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

GLANCE_S: Final = 0.2
ANSWER_PATIENCE_S: Final = 3.0
SAY_SO_AFTER_S: Final = (10.0, 60.0)
MAX_REASON_CHARS: Final = 200
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Front:
    """Our api as a caller on this machine sees it."""

    url: str
    master_key: str | None = field(default=None, repr=False)
    say_so_after_s: Sequence[float] = SAY_SO_AFTER_S

    async def until_ready(self, *, say: Callable[[str], None]) -> list[str]:
        """Return the models once all is up; after a while say what is missing."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        unsaid = list(self.say_so_after_s)
        while True:
            status, answer = await self.get("/readyz?deep=1")
            if status == 200:
                status, answer = await self.get("/v1/models")
                if status == 200:
                    return _model_names(answer)
            if unsaid and loop.time() - began_at > unsaid[0]:
                say(f"not ready after {unsaid.pop(0):.0f} s, still trying: {_reason(answer)}")
            await asyncio.sleep(GLANCE_S)

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """GET a JSON answer; the status is 0 where there was none in time."""
        try:
            async with asyncio.timeout(ANSWER_PATIENCE_S):
                return await self._get(path)
        except (OSError, EOFError, ValueError, TypeError, IndexError, asyncio.LimitOverrunError):
            return 0, {}

    async def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(self._request(path, parts.netloc))
            head = await reader.readuntil(b"\r\n\r\n")
            length = CONTENT_LENGTH.search(head)
            body = await (reader.readexactly(int(length[1])) if length else reader.read())
        finally:
            writer.close()
        answer = json.loads(body)
        if not isinstance(answer, dict):
            raise TypeError("not the answer of our api")
        return int(head.split(b" ", 2)[1]), answer

    def _request(self, path: str, host: str) -> bytes:
        # HTTP/1.0, so that the answer comes in one piece.
        lines = [f"GET {path} HTTP/1.0", f"host: {host}", "connection: close"]
        if self.master_key:
            lines.append(f"authorization: Bearer {self.master_key}")
        return "\r\n".join([*lines, "", ""]).encode()


def _model_names(answer: dict[str, Any]) -> list[str]:
    return [*(model["id"] for model in answer.get("data", ())), *answer.get("wildcards", ())]


def _reason(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    said = error.get("message") if isinstance(error, dict) else None
    return str(said or "the api does not answer yet")[:MAX_REASON_CHARS]
