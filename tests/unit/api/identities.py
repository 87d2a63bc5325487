"""Virtual keys to be found, and somebody who says whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from embedpool_shared.accounts import Identity, KeyRecord, TeamRecord, UserRecord
from embedpool_shared.sealing import Secrets

SECRET: Final = "a-secret-of-many-letters"
SECRETS: Final = Secrets(SECRET)
OUR_KEY: Final = b"sk-ep-canary-of-a-virtual-key"


def identity(
    *, team: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **key: Any
) -> Identity:
    """Make what is known of a key `k`, and of its team `t` and user `u` where they are given."""
    own = {
        "id": "k",
        "digest": "d",
        "name": "sk-ep-…",
        "team_id": None if team is None else "t",
        "user_id": None if user is None else "u",
    }
    return Identity(
        key=KeyRecord(**(own | key)),
        team=None if team is None else TeamRecord(id="t", **team),
        user=None if user is None else UserRecord(id="u", **user),
        read_at=1_000.0,
    )


class FakeAccounts:
    """Knows identities by digest, counts the questions, and may be slow or away."""

    def __init__(self, known: dict[str, Identity] | None = None) -> None:
        self.known = known or {}
        self.asked: list[Sequence[str]] = []
        self.takes_s = 0.0
        self.error: Exception | None = None

    async def identity(self, digests: Sequence[str]) -> Identity | None:
        """Answer as the real ones do."""
        self.asked.append(digests)
        error, found = self.error, self._found(digests)
        await asyncio.sleep(self.takes_s)
        if error is not None:
            raise error
        return found

    def knows(self, credential: bytes, found: Identity) -> None:
        """Let `credential` be this key."""
        self.known[SECRETS.digest(credential)] = found

    def _found(self, digests: Sequence[str]) -> Identity | None:
        return next((self.known[digest] for digest in digests if digest in self.known), None)
