"""The short way in through uvicorn: a request for embeddings begins in the moment it arrives.

uvicorn reads every head anew and makes a scope, a task and a turn of the loop of each request: a
third of what a lone one costs on its way in. Seen in uvicorn 0.54.

Invariants:
- Only requests that come one after the other go the short way; any other is uvicorn's own affair.
- A head is taken for known only where it begins a message, and only together with its whole body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from embedpool_api.corked import Corked
from embedpool_api.errands import GO_ON, Errand
from embedpool_api.heads import KnownHead, known_head
from embedpool_api.middleware import BODY, HEADERS
from embedpool_api.paths import FIXED

MAX_NEW_HEADS: Final = 4
"""A client whose heads differ so often in a row will go on like that: none is remembered then."""
_URLS: Final = frozenset(path.encode() for path in FIXED)


class Arrivals(HttpToolsProtocol):
    """One connection; the application has to be ours, for it sees of a scope what it needs."""

    _arrived: RequestResponseCycle | None = None  # and not begun
    _is_between_messages = True
    _known: KnownHead | None = None
    _path = ""  # of what is known
    _new_heads = 0

    @override
    def connection_made(self, transport: Any) -> None:
        """Have each response sent as one piece."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]

    @override
    def data_received(self, data: bytes) -> None:
        """Begin a request for embeddings with all that has come of its body."""
        if self._known is not None and self._is_between_messages and self._is_free:
            body = self._known.body_of(data)
            if body is not None:
                self._unset_keepalive_if_required()
                self._new_heads = 0
                self._begin(self._cycle(self._path, self._known.headers, body=body))
                return
        is_whole = self._is_between_messages
        super().data_received(data)
        if self._arrived is not None:
            cycle, self._arrived = self._arrived, None
            if is_whole and self._is_between_messages and cycle.keep_alive:
                self._remember(data)
            self._begin(cycle)

    @override
    def on_message_begin(self) -> None:
        """Wait with the scope until it is known who reads it."""
        self._is_between_messages = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    @override
    def on_headers_complete(self) -> None:
        """Keep a request for embeddings for `data_received`; leave any other to uvicorn."""
        if self._is_free and self.url in _URLS and self.parser.get_method() == b"POST":
            self._arrived = self._cycle(self.url.decode(), dict(self.headers), body=None)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        """Know that what comes next begins a message."""
        self._is_between_messages = True
        super().on_message_complete()

    @property
    def _is_free(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _remember(self, data: bytes) -> None:
        if self._new_heads < MAX_NEW_HEADS:
            self._new_heads += 1
            self._known, self._path = known_head(data, self.headers), self.url.decode()

    def _cycle(
        self, path: str, headers: Mapping[bytes, bytes], *, body: bytes | None
    ) -> RequestResponseCycle:
        """Make what uvicorn answers with; a body that is known is read by nobody."""
        is_known = body is not None
        version = "1.1" if is_known else self.parser.get_http_version()
        cycle = self.cycle = RequestResponseCycle(
            scope={  # type: ignore[typeddict-item, typeddict-unknown-key]
                "type": "http",
                "http_version": version,
                "method": "POST",
                "path": path,
                "query_string": b"",
                "client": self.client,
                HEADERS: headers,
                BODY: body,
            },
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=not is_known and self.expect_100_continue,
            keep_alive=is_known or (version != "1.0" and self.parser.should_keep_alive()),
            on_response=self.on_response_complete,
        )
        cycle.more_body = not is_known
        return cycle

    def _begin(self, cycle: RequestResponseCycle) -> None:
        scope: Any = cycle.scope

        def ended(errand: Errand) -> None:
            self.tasks.discard(errand)
            scope.clear()  # else all that is known of it stayed until the next one has come

        errand = Errand(self.loop, on_end=ended)
        self.tasks.add(errand)  # type: ignore[arg-type]
        scope[GO_ON] = errand.go_on
        errand.begin(cycle.run_asgi(self.app))
