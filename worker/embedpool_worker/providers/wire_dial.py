"""Opens sockets to one host: all its addresses, IPv6 and IPv4 side by side."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import aiohappyeyeballs
from yarl import URL

OTHER_FAMILY_AFTER_S: Final = 0.25
"""How long one family may stay silent before the other is tried beside it (RFC 8305)."""
KEEP_ADDRESSES_S: Final = 60.0

AddressInfos = list[aiohappyeyeballs.AddrInfoType]


class Dialer:
    """Connects to the host and port of `base`; names are looked up once a minute."""

    def __init__(self, base: URL) -> None:
        is_web = base.scheme in {"http", "https"}
        self.host: Final = (base.raw_host or "") if is_web else ""
        self._port = base.port
        self._addresses: AddressInfos = []
        self._addresses_until_at = 0.0

    async def dial(self) -> socket.socket:
        """Open a connected socket; raises OSError."""
        addresses = await self._lookup()
        try:
            sock = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=OTHER_FAMILY_AFTER_S, interleave=1
            )
        except OSError:
            self._addresses = []  # they may have moved
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def _lookup(self) -> AddressInfos:
        loop = asyncio.get_running_loop()
        if self._addresses and loop.time() < self._addresses_until_at:
            return self._addresses
        if not self.host:  # which would be looked up as this machine
            raise OSError("no address of a web server")
        found = await loop.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)
        self._addresses, self._addresses_until_at = list(found), loop.time() + KEEP_ADDRESSES_S
        return self._addresses
