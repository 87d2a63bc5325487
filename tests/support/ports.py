"""Free ports, for programs that cannot take one themselves."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a loopback port that nobody listened at a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
