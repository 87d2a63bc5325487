"""The HTTP edge with files and batches over a real server and a folder, and whoever asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from embedpool_api.accounts.shared_line import SharedLine
from embedpool_api.admission import Admission
from embedpool_api.app import create_app
from embedpool_api.arrivals import Arrivals
from embedpool_api.bulk.parts import BulkParts
from embedpool_api.bulk.spent import spent_check
from embedpool_api.bulk.threads import StoreThreads
from embedpool_api.callers import Gate
from embedpool_api.identities import Identities
from embedpool_api.main import Running
from embedpool_api.own_keys import own_key_holders
from embedpool_api.parts import ApiParts
from embedpool_shared.accounts import TeamRecord
from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import BatchField, Status
from embedpool_shared.config.settings import AuthSettings, FilesSettings
from embedpool_shared.errors import QueueUnavailable, StoreUnavailable
from embedpool_shared.file_records import FileRecords
from embedpool_shared.file_store import FileStore
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from embedpool_shared.scripts import Script
from integration.accounts_by_hand import SECRETS, Books, books
from support.cards import CATALOG
from support.valkey import RedisServer

MASTER: Final = "sk-the-master-key-of-this-test"
LINE: Final = b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {}}\n'


class Forgetful(Line):
    """A line that loses replies."""

    _loses: str = ""
    _times = 0

    def lose_replies_to(self, name: str, *, times: int) -> None:
        """Let the next so many runs of a script take effect, and fail."""
        self._loses, self._times = name, times

    @override
    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], **patience: float
    ) -> Any:
        reply = await super().run(script, keys, arguments, **patience)
        if script.name == self._loses and self._times:
            self._times -= 1
            raise QueueUnavailable("lost by the test", retry_after_s=1.0)
        return reply


@dataclass
class BulkEdge:
    """A pool's edge; nobody runs its batches but the test."""

    books: Books
    app: ASGIApp
    client: httpx.AsyncClient
    files: FileRecords
    batches: BatchRecords
    line: Forgetful
    folder: Path
    hurried: list[str] = field(default_factory=list)
    is_same: bool = True

    async def ask(
        self, method: str, path: str, *, key: str | None = MASTER, **more: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return await self.client.request(
            method, path, headers=headers | more.pop("headers", {}), **more
        )

    async def told(self, method: str, path: str, **more: Any) -> Any:
        """Ask what is answered, and read the answer."""
        response = await self.ask(method, path, **more)
        assert response.status_code == 200, response.text
        return response.json()

    async def refused(self, status: int, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Ask what is refused, and read the error."""
        response = await self.ask(method, path, **more)
        assert response.status_code == status, response.text
        error: dict[str, Any] = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return error

    async def upload(
        self, content: bytes = LINE, *, key: str | None = MASTER, name: str = "in.jsonl"
    ) -> str:
        """Upload a file and return its id."""
        made = await self.told(
            "POST", "/v1/files", key=key, files={"file": (name, content)}, data=PURPOSE
        )
        return str(made["id"])

    async def batch(self, file_id: str, *, key: str | None = MASTER, **more: Any) -> Any:
        """Make a batch."""
        return await self.told("POST", "/v1/batches", json=order(file_id, **more), key=key)

    async def end(
        self, batch_id: str, status: Status = Status.COMPLETED, **fields: int | str
    ) -> None:
        """End a batch, as who runs it does."""
        named = {BatchField(name): value for name, value in fields.items()}
        await self.batches.step(batch_id, status, from_=list(Status), fields=named)

    async def team(self, team_id: str) -> str:
        await self.books.accounts.teams.create(TeamRecord(id=team_id))
        return team_id

    def contents(self) -> list[str]:
        """What is in the store, whatever becomes of it."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder)) for path in found if path.name != "mark")


PURPOSE: Final = {"purpose": "batch"}
BOUNDS: Final = FilesSettings()


def order(file_id: str, **more: Any) -> dict[str, Any]:
    """What asks for a batch."""
    asked = {
        "input_file_id": file_id,
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
        **more,
    }
    return {name: value for name, value in asked.items() if value is not None}


@asynccontextmanager
async def bulk_edge(
    valkey: RedisServer,
    folder: Path,
    *,
    master_key: str | None = MASTER,
    passthrough: bool = False,
    store: Any = "a folder",
    bounds: FilesSettings = BOUNDS,
) -> AsyncIterator[BulkEdge]:
    """Open the edge for a test; `store` is another one, or None, and without a key it is open."""
    names, running, threads = Names(), Running(), StoreThreads()

    async with books(valkey.url) as accounts:
        identities = Identities(accounts.accounts.identity, SECRETS)
        auth = AuthSettings(allow_passthrough_keys=passthrough)
        gate = Gate(master_key, find=identities.find, own_key_holder=own_key_holders(auth, SECRETS))
        made: list[Line] = []

        def line(role: str) -> Line:
            pool = connection_pool(RedisAddress(valkey.url), client_name=f"test:{role}")
            made.append(Line(pool))
            return made[-1]

        bulk = Forgetful(connection_pool(RedisAddress(valkey.url), client_name="test:bulk"))
        shared = SharedLine(bulk)
        edge = BulkEdge(
            accounts,
            _unused,
            httpx.AsyncClient(),
            FileRecords(shared, names),
            BatchRecords(shared, names),
            bulk,
            folder,
        )

        def require_shared() -> None:
            if not edge.is_same:
                raise StoreUnavailable("they differ")

        parts = BulkParts(
            files=edge.files,
            batches=edge.batches,
            store=FileStore(folder.as_uri()) if store == "a folder" else store,
            threads=threads,
            bounds=bounds,
            identify=gate.identify,
            refuse_spent=spent_check(Admission(line, names, api_id="a", spawn=running.spawn)),
            require_shared=require_shared,
            hurry=edge.hurried.append,
            forwards_user=True,
        )
        edge.app = create_app(
            ApiParts(
                embeddings=_unused,
                catalog=lambda: CATALOG,
                health=_unasked,
                identify=gate.identify,
                bulk=parts,
            )
        )
        transport = httpx.ASGITransport(app=edge.app, raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url=LOCALHOST) as edge.client:
                yield edge
        finally:
            await running.end()
            threads.close()
            await shared.close()
            for one in made:
                await one.close()


LOCALHOST: Final = "http://localhost"


async def _unused(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive, send
    raise AssertionError("nobody embeds here")


async def _unasked() -> dict[str, Any]:
    return {"ok": True}


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve the edge as the api process does; yields where."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=Arrivals,
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
    server = uvicorn.Server(config)
    with _without_signals(server):
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
            assert not serving.done()
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await serving


@contextmanager
def _without_signals(server: uvicorn.Server) -> Iterator[None]:
    """Leave the signals to pytest."""

    @contextmanager
    def none() -> Iterator[None]:
        yield

    server.capture_signals = none  # type: ignore[method-assign]
    yield
