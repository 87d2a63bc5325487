"""The socket we answer at, taken before anything else starts."""

from __future__ import annotations

import errno
import socket
from typing import Final

from embedpool_shared.errors import ConfigInvalid

BACKLOG: Final = 2_048
EVERY_ADDRESS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104


def listening_socket(host: str, port: int) -> socket.socket:
    """Listen on `host` and `port`; port 0 takes a free one. Raises `ConfigInvalid`, saying which.

    It listens from the start: two that were only bound could share a port unnoticed.
    """
    try:
        family, address = _resolved(host, port)
        listener = socket.socket(family, socket.SOCK_STREAM)
    except UnicodeError:
        raise ConfigInvalid(f"cannot listen on {host}: that is no host name") from None
    except OSError as error:
        raise ConfigInvalid(f"cannot listen on {host}: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigInvalid(_refusal(host, port, error)) from None
    return listener


def base_url(host: str, port: int) -> str:
    """Write where a program on this machine finds us."""
    if host in EVERY_ADDRESS:
        name = EVERY_ADDRESS[host]
    else:
        name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{name}:{port}"


def _resolved(host: str, port: int) -> tuple[int, tuple[object, ...]]:
    found = socket.getaddrinfo(
        host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # localhost is both 127.0.0.1 and ::1; the first is the one everybody means.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken: choose another with --port or EMBEDPOOL_PORT "
            "(--port 0 takes a free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges: choose one above 1023 with --port or EMBEDPOOL_PORT"
    return f"cannot listen on {host} port {port}: {error.strerror}"
