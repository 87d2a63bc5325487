"""Whose virtual key it is: as Redis said at most two seconds ago.

Invariants
- A key that is changed, blocked or deleted is so everywhere at most `KEPT_S` later, also while
  Redis is away: then nobody can say whose key it is.
- A key in use never waits: it is looked up again behind its requests' backs.
- However many ask at once, a key is looked up once; unknown ones never push known ones out.
- Keys are told apart by their whole digest, and kept in no other form.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from embedpool_api.credentials import INVALID
from embedpool_shared.errors import EmbedPoolError, InvalidApiKey, QueueUnavailable

if TYPE_CHECKING:
    from embedpool_shared.accounts import Identity
    from embedpool_shared.sealing import Secrets

FRESH_S: Final = 1.0
"""Older than this it is looked up again, in the background."""
KEPT_S: Final = 2.0
"""Older than this it is not believed any more."""
LOOKUP_PATIENCE_S: Final = 1.0
MAX_KNOWN: Final = 10_000
MAX_UNKNOWN: Final = 10_000

log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """What Redis said."""

    identity: Identity | None
    asked_at: float  # it is at least as new as this


class Identities:
    """Finds the holders of virtual keys."""

    def __init__(
        self,
        lookup: Callable[[Sequence[str]], Awaitable[Identity | None]],
        secrets: Secrets,
        *,
        max_known: int = MAX_KNOWN,
        max_unknown: int = MAX_UNKNOWN,
    ) -> None:
        """`lookup` gets a key's digests under every secret, and raises `QueueUnavailable`."""
        self._lookup = lookup
        self._secrets = secrets
        self._known = _Newest(max_known)
        self._unknown = _Newest(max_unknown)
        self._lookups: dict[bytes, asyncio.Task[_Read]] = {}

    async def find(self, credential: bytes) -> Identity | None:
        """Say whose key this is; None for a key that is not ours.

        Raises `InvalidApiKey` for one that has expired, or is blocked itself or with its team or
        user, and `QueueUnavailable` when Redis is away.
        """
        name = hashlib.sha256(credential).digest()
        now = asyncio.get_running_loop().time()
        read = self._known.get(name) or self._unknown.get(name)
        if read is None or now - read.asked_at >= KEPT_S:
            # Shielded: whoever gives up waiting is not the only one who asked.
            read = await asyncio.shield(self._asked(name, credential))
            now = asyncio.get_running_loop().time()
        elif now - read.asked_at >= FRESH_S:
            self._asked(name, credential)
        if read.identity is not None:
            refuse_unusable(read.identity, passed_s=now - read.asked_at)
        return read.identity

    def forget(self) -> None:
        """Look every key up anew: something was changed."""
        self._known.clear()
        self._unknown.clear()
        self._lookups.clear()

    def _asked(self, name: bytes, credential: bytes) -> asyncio.Task[_Read]:
        """Return the lookup that is under way, or begin one."""
        task = self._lookups.get(name)
        if task is None:
            digests = self._secrets.digests(credential)
            task = asyncio.get_running_loop().create_task(self._read(digests))
            self._lookups[name] = task
            task.add_done_callback(lambda done: self._keep(name, done))
        return task

    async def _read(self, digests: Sequence[str]) -> _Read:
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LOOKUP_PATIENCE_S):
                return _Read(await self._lookup(digests), asked_at)
        except TimeoutError:
            raise QueueUnavailable("Redis did not say in time whose key this is") from None

    def _keep(self, name: bytes, task: asyncio.Task[_Read]) -> None:
        # Another one, or none, is there where something was changed meanwhile.
        is_current = self._lookups.get(name) is task
        if is_current:
            del self._lookups[name]
        if task.cancelled():
            return
        error = task.exception()
        if error is None and is_current:
            self._put(name, task.result())
        elif error is not None and not isinstance(error, EmbedPoolError):
            log.error("identity_lookup_failed", exc_info=error)

    def _put(self, name: bytes, read: _Read) -> None:
        is_known = read.identity is not None
        (self._unknown if is_known else self._known).drop(name)
        (self._known if is_known else self._unknown).put(name, read)


class _Newest:
    """So many readings: those that were asked for last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._readings: OrderedDict[bytes, _Read] = OrderedDict()

    def get(self, name: bytes) -> _Read | None:
        read = self._readings.get(name)
        if read is not None:
            self._readings.move_to_end(name)
        return read

    def put(self, name: bytes, read: _Read) -> None:
        self._readings[name] = read
        self._readings.move_to_end(name)
        if len(self._readings) > self._size:
            self._readings.popitem(last=False)

    def drop(self, name: bytes) -> None:
        self._readings.pop(name, None)

    def clear(self) -> None:
        self._readings.clear()


def refuse_unusable(identity: Identity, *, passed_s: float) -> None:
    """Raise `InvalidApiKey` for a key that is not good `passed_s` after it was read.

    By Redis' clock, which also said when the key expires.
    """
    key = identity.key
    if key.expires_at is not None and identity.read_at + passed_s >= key.expires_at:
        raise InvalidApiKey(f"{INVALID}: it has expired")
    if key.is_blocked:
        raise InvalidApiKey(f"{INVALID}: it is blocked")
    if identity.team is not None and identity.team.is_blocked:
        raise InvalidApiKey(f"{INVALID}: its team is blocked")
    if identity.user is not None and identity.user.is_blocked:
        raise InvalidApiKey(f"{INVALID}: its user is blocked")
