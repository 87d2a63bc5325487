"""The only builder of Redis connections: a `Line` is one connection with one owner.

One owner task per connection role, so no pool and no lock stand on the hot path, and a command
cut off in flight costs only its own line. Nothing is retried here: what may be repeated is the
owner's knowledge. A line that broke connects again at its next use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

from hiredis import pack_command
from redis import exceptions as theirs
from redis.asyncio.connection import AbstractConnection, ConnectionPool, parse_url
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from typing_extensions import override

from embedpool_shared.errors import ConfigInvalid, QueueUnavailable
from embedpool_shared.redis_wire import Heard, Wire, taken_over
from embedpool_shared.scripts import Script

CONNECT_PATIENCE_S: Final = 2.0
PATIENCE_S: Final = 5.0
"""How long an ordinary command may take before its line counts as broken."""

OURS_TO_CHOOSE: Final = frozenset({"socket_timeout", "decode_responses", "protocol"})
"""URL options that would break blocking reads or the shape of replies."""

Reply = Any
"""What redis-py returns: bytes, int, None, or lists and dicts of them."""


class RedisRefused(QueueUnavailable):
    """Redis answered, and the answer was an error: out of memory, read-only, no permission …"""


class AccessDenied(RedisRefused):
    """Redis does not know our user or password, or does not let this user do that."""


class NoSuchGroup(RedisRefused):
    """The stream or its consumer group is gone; whoever reads it creates it again."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, by any redis-py URL or `redis+sentinel://h1,h2/service/db`."""

    url: str
    ca_file: str | None = None

    @override
    def __repr__(self) -> str:
        """Name the host, never the password."""
        return f"RedisAddress({self.place})"

    @property
    def place(self) -> str:
        """The URL without user and password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connection_pool(address: RedisAddress, *, client_name: str) -> ConnectionPool:
    """Describe connections to `address`; a `Line` makes its one from it. Raises `ConfigInvalid`."""
    options: dict[str, Any] = {
        "client_name": client_name,
        "socket_connect_timeout": CONNECT_PATIENCE_S,
        "socket_keepalive": True,
    }
    if address.url.startswith(("redis+sentinel://", "rediss+sentinel://")):
        return _sentinel_pool(address, options)
    try:
        options.update(parse_url(address.url))
    except ValueError as bad:
        raise ConfigInvalid(
            f"redis.url {address.place!r} is not a Redis URL ({bad}); "
            "expected redis://, rediss://, unix:// or redis+sentinel://"
        ) from None
    if "path" in options:
        options.pop("socket_keepalive")
    if address.url.startswith("rediss://"):
        options |= _tls_options(address) | {"ssl_check_hostname": _checks_host_name(options)}
    return ConnectionPool(**{k: v for k, v in options.items() if k not in OURS_TO_CHOOSE})


def _tls_options(address: RedisAddress) -> dict[str, Any]:
    return {"ssl_ca_certs": address.ca_file} if address.ca_file else {}


def _checks_host_name(options: dict[str, Any]) -> bool:
    """Check it unless the URL says otherwise; redis-py 5 would believe any host's certificate."""
    return bool(options.get("ssl_check_hostname", options.get("ssl_cert_reqs") != "none"))


def _sentinel_pool(address: RedisAddress, options: dict[str, Any]) -> SentinelConnectionPool:
    parts = urlsplit(address.url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    path = [piece for piece in parts.path.split("/") if piece]
    if not hosts or not path:
        raise ConfigInvalid(
            f"redis.url {address.place!r} needs redis+sentinel://host1:26379,host2/service/db"
        )
    user, _, password = credentials.partition(":")
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    options["db"] = int(path[1]) if len(path) > 1 else 0
    if parts.scheme == "rediss+sentinel" or parse_qs(parts.query).get("ssl") == ["true"]:
        options |= {"ssl": True, **_tls_options(address)}
    untyped: Any = _Sentinels  # redis-py 5 has types for the rest only
    sentinels = untyped([_host_port(host) for host in hosts.split(",")])
    pool: Any = SentinelConnectionPool
    return cast("SentinelConnectionPool", pool(path[0], sentinels, **options))


class _Sentinels(Sentinel):
    """Hangs up once asked; else every line of every process keeps a connection to a Sentinel."""

    @override
    async def discover_master(self, service_name: str) -> tuple[str, int]:
        try:
            found: tuple[str, int] = await super().discover_master(service_name)
            return found
        finally:
            for sentinel in self.sentinels:
                await sentinel.aclose()


def _host_port(host: str) -> tuple[str, int]:
    name, _, port = host.partition(":")
    return name, int(port or 26379)


class Line:
    """One connection, used by one task at a time.

    Raises `QueueUnavailable` where Redis cannot be reached or does not answer in time (whether the
    command took effect is then unknown), and `RedisRefused` where it answered with an error.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Prepare; the first command connects."""
        self._pool = pool  # a Sentinel's connections refer to it weakly
        self._connection: AbstractConnection = cast("Any", pool).make_connection()
        self._wire: Wire | None = None

    async def call(
        self, *command: Any, patience_s: float = PATIENCE_S, heard: Heard | None = None
    ) -> Reply:
        """Send one command and await its reply; see `call_all`."""
        (reply,) = _all_well(await self._ask(pack_command(command), 1, patience_s, heard))
        return reply

    async def call_all(
        self,
        commands: Sequence[tuple[Any, ...]],
        *,
        patience_s: float = PATIENCE_S,
        heard: Heard | None = None,
    ) -> list[Reply]:
        """Send several commands in one write and await all replies; the first error wins.

        `heard` gets the replies in the moment they arrive, before this returns; never errors.
        """
        packed = b"".join(map(pack_command, commands))
        return _all_well(await self._ask(packed, len(commands), patience_s, heard))

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any],
        *,
        patience_s: float = PATIENCE_S,
    ) -> Reply:
        """Run `script` by its digest; a server that does not know it yet is told."""
        tail = (len(keys), *keys, *arguments)
        packed = pack_command(("EVALSHA", script.sha, *tail))
        replies = await self._ask(packed, 1, patience_s)
        if isinstance(replies[0], _ScriptUnknown):
            packed = pack_command(("EVAL", script.source, *tail))
            replies = await self._ask(packed, 1, patience_s)
        return _all_well(replies)[0]

    async def run_all(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        *,
        patience_s: float = PATIENCE_S,
        heard: Heard | None = None,
    ) -> list[Reply | QueueUnavailable]:
        """Run `script` once for each (keys, arguments), all in one write.

        A call that Redis answered with an error has that in its place; the others took effect.
        `heard` gets the replies in the moment they arrive, unless there are errors among them.
        """
        tails = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        commands = [("EVALSHA", script.sha, *tail) for tail in tails]
        packed = b"".join(map(pack_command, commands))
        replies = await self._ask(packed, len(tails), patience_s, heard)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, _ScriptUnknown)]
        if unknown:
            commands = [("EVAL", script.source, *tails[at]) for at in unknown]
            packed = b"".join(map(pack_command, commands))
            told = await self._ask(packed, len(unknown), patience_s)
            for at, reply in zip(unknown, told, strict=True):
                replies[at] = reply
        return replies

    async def close(self) -> None:
        """Hang up."""
        self._wire = None
        with suppress(theirs.RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    async def _ask(
        self, packed: bytes, count: int, patience_s: float, heard: Heard | None = None
    ) -> list[Reply]:
        """Send and await all replies; an error among them stands in its place as one of ours."""
        try:
            wire = self._wire
            if wire is None or wire.is_broken:
                wire = await self._connected(patience_s)
            replies = await wire.ask(packed, count, patience_s=patience_s, heard=heard)
        except (theirs.RedisError, OSError, TimeoutError) as error:
            await self.close()
            raise _ours(error) from error
        except BaseException:
            await self.close()  # a reply still on its way would be taken for the next command's
            raise
        if not wire.has_refused:
            return replies
        if any(isinstance(reply, theirs.ReadOnlyError) for reply in replies):
            # A primary that became a replica stays one: ask again who it is by now.
            await self.close()
        return [_ours(it) if isinstance(it, theirs.RedisError) else it for it in replies]

    async def _connected(self, patience_s: float) -> Wire:
        await self.close()
        connection: Any = self._connection
        async with asyncio.timeout(patience_s):
            await connection.connect()
        self._wire = taken_over(connection)
        return self._wire


class _ScriptUnknown(RedisRefused):
    """NOSCRIPT: never seen outside `Line`."""


def _all_well(replies: list[Reply]) -> list[Reply]:
    """Raise the first error among replies."""
    for reply in replies:
        if isinstance(reply, QueueUnavailable):
            raise reply
    return replies


DENIALS: Final = (
    theirs.AuthenticationError,
    theirs.AuthenticationWrongNumberOfArgsError,
    theirs.AuthorizationError,
    theirs.NoPermissionError,
)


def _ours(error: Exception) -> QueueUnavailable:
    if isinstance(error, theirs.NoScriptError):
        return _ScriptUnknown("Redis does not know the script")
    if isinstance(error, DENIALS):
        return AccessDenied(f"Redis denied access: {str(error)[:200]}", retry_after_s=1.0)
    if isinstance(error, theirs.ResponseError):
        kind = NoSuchGroup if "NOGROUP" in str(error) else RedisRefused
        return kind(f"Redis refused: {str(error)[:200]}", retry_after_s=1.0)
    return QueueUnavailable("Redis is not reachable", retry_after_s=1.0)


__all__ = [
    "AccessDenied",
    "Line",
    "NoSuchGroup",
    "RedisAddress",
    "RedisRefused",
    "connection_pool",
]
