"""Serves the metrics of a role on a port of their own, from a thread of the processes' parent.

Invariants
- A port that is taken is one warning, and the role runs on.
- With a token, whoever does not send it learns nothing; without one only this machine is answered,
  by a name that no stranger's page can have.
"""

from __future__ import annotations

import hmac
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from typing_extensions import override

from embedpool_shared.config.settings import MetricsSettings
from embedpool_shared.hosts import is_loopback
from embedpool_shared.measures import Role
from embedpool_shared.telemetry.prometheus import CONTENT_TYPE
from embedpool_shared.telemetry.target import Target

PATH: Final = "/metrics"
PATIENCE_S: Final = 5.0
"""How long a scraper may take to say what it wants, or to read the answer."""
log = logging.getLogger(__name__)


def is_token(settings: MetricsSettings, given: bytes | None) -> bool:
    """Tell, in constant time, whether this is the configured token; without one nothing is."""
    token = settings.token
    if token is None or given is None:
        return False
    return hmac.compare_digest(token.get_secret_value().encode(), given)


@contextmanager
def exported(role: Role, settings: MetricsSettings, target: Target) -> Iterator[int | None]:
    """Serve the target of a role; yields the port, None where there is none to be had."""
    port = settings.api_port if role is Role.API else settings.worker_port
    server = _listening(role, settings, target, port) if port else None
    if server is None:
        yield None
        return
    thread = threading.Thread(target=server.serve_forever, name=f"metrics-{role.value}")
    thread.daemon = True
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _listening(role: Role, settings: MetricsSettings, target: Target, port: int) -> _Server | None:
    try:
        return _Server(settings, target, port)
    except OSError as taken:
        log.warning(
            "metrics_not_served role=%s host=%s port=%d reason=%s",
            role.value, settings.host, port, taken.strerror,
        )  # fmt: skip
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, settings: MetricsSettings, target: Target, port: int) -> None:
        self.settings = settings
        self.target = target
        self.turn = threading.Lock()
        host = settings.host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    @override
    def server_bind(self) -> None:
        # The library would look its own name up in the DNS.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "metrics", self.server_address[1]

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE_S
    protocol_version = "HTTP/1.1"
    server_version = "embedpool"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a scrape."""
        status = self._verdict()
        body = self._metrics() if status == 200 else b""
        if body is None:
            status, body = 500, b""
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _verdict(self) -> int:
        if self.path.partition("?")[0] != PATH:
            return 404
        settings = self.server.settings
        if settings.token is not None:
            scheme, _, given = self.headers.get("Authorization", "").partition(" ")
            is_known = scheme.lower() == "bearer" and is_token(settings, given.strip().encode())
            return 200 if is_known else 401
        host = self.headers.get("Host", "")
        return 200 if is_loopback(host.rpartition(":")[0] or host) else 403

    def _metrics(self) -> bytes | None:
        try:
            with self.server.turn:
                return self.server.target()
        except Exception:
            log.exception("scrape_failed")
            return None

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are no news."""
