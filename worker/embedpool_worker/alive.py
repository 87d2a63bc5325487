"""The health check of a worker's container: `python -m embedpool_worker.alive`.

A worker says every second or two that it lives, from its event loop; one whose loop hangs falls
silent. It is found by its host's name, with which its process id begins (`worker:<host>:…`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from embedpool_shared.config.file import load_config
from embedpool_shared.config.settings import Config
from embedpool_shared.errors import ConfigInvalid, QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.presence import WORKER
from embedpool_shared.redis import Line, RedisAddress, connection_pool


async def beats(line: Line, names: Names, *, host: str) -> bool:
    """Tell whether a worker on `host` is present, on Redis' clock; raises `QueueUnavailable`."""
    seconds, microseconds = await line.call("TIME")
    now_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
    alive: list[bytes] = await line.call("ZRANGEBYSCORE", names.alive, f"({now_ms}", "+inf")
    return any(process.decode().startswith(f"{WORKER}{host}:") for process in alive)


async def verdict(config: Config, *, host: str) -> str | None:
    """Say what is wrong with this host's worker, or None."""
    if config.redis.url is None:
        return "no Redis is configured: set REDIS_URL or redis.url"
    address = RedisAddress(config.redis.url.get_secret_value(), config.redis.ca_file)
    line = Line(connection_pool(address, client_name="embedpool-alive"))
    try:
        is_present = await beats(line, Names(config.redis.prefix), host=host)
    except QueueUnavailable:
        # Not the worker's fault, and a restart would not bring Redis back.
        return None
    finally:
        await line.close()
    return None if is_present else f"no worker on {host} has said for seconds that it lives"


def main() -> int:
    """Exit with 0 while this host's worker lives, with 1 and a reason otherwise."""
    try:
        config = load_config(None, os.environ).config
        wrong = asyncio.run(verdict(config, host=socket.gethostname()))
    except ConfigInvalid as invalid:
        wrong = invalid.message
    if wrong:
        sys.stderr.write(f"embedpool: {wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
