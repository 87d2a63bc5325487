"""The HTTP edge over accounts on a real server, and whoever asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from starlette.types import Receive, Scope, Send

from embedpool_api.accounts.spend_log import SpendLog
from embedpool_api.app import create_app
from embedpool_api.callers import Gate
from embedpool_api.identities import Identities
from embedpool_api.own_keys import own_key_holders
from embedpool_api.parts import ApiParts
from embedpool_api.routes.admin import AdminParts
from embedpool_shared.accounts import AccountKind, account_name
from embedpool_shared.config.settings import AuthSettings
from embedpool_shared.jobs import Bill, LedgerRecord, encode
from embedpool_shared.names import Names
from integration.accounts_by_hand import SECRETS, Books, books
from support.cards import CATALOG
from support.valkey import RedisServer

MASTER: Final = "sk-the-master-key-of-this-test"
WITHOUT: Final = object()


@dataclass
class Office:
    """A pool's edge; every answer is remembered."""

    books: Books
    client: httpx.AsyncClient
    identities: Identities
    answers: list[tuple[str, httpx.Response]] = field(default_factory=list)

    async def ask(
        self, method: str, path: str, *, key: Any = MASTER, **more: Any
    ) -> httpx.Response:
        headers = {} if key is WITHOUT else {"authorization": f"Bearer {key}"}
        response = await self.client.request(method, path, headers=headers, **more)
        self.answers.append((path, response))
        return response

    async def post(self, path: str, body: Any = None, *, key: Any = MASTER) -> Any:
        """Post a body that is welcome, and read the answer."""
        response = await self.ask("POST", path, json=body or {}, key=key)
        assert response.status_code == 200, response.text
        return response.json()

    async def get(self, path: str, *, key: Any = MASTER, **query: Any) -> Any:
        response = await self.ask("GET", path, params=query, key=key)
        assert response.status_code == 200, response.text
        return response.json()

    async def refused(
        self, path: str, body: Any = None, *, status: int = 400, **more: Any
    ) -> dict[str, Any]:
        """Post, or get where there is no body, what is refused; read the error."""
        method = "GET" if body is None else "POST"
        if isinstance(body, bytes):
            more["content"] = body
        elif body is not None:
            more["json"] = body
        response = await self.ask(method, path, **more)
        assert response.status_code == status, response.text
        error: dict[str, Any] = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return error

    async def key(self, **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.post("/key/generate", fields)
        return made


async def _unused(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive, send
    raise AssertionError("nobody embeds here")


async def _healthy() -> Mapping[str, Any]:
    return {"ok": True}


@asynccontextmanager
async def office(
    valkey: RedisServer, *, master_key: str | None = MASTER, passthrough: bool = False
) -> AsyncIterator[Office]:
    """Open the edge for a test; without a master key it is open mode."""
    async with books(valkey.url) as it:
        identities = Identities(it.accounts.identity, SECRETS)
        it.accounts.changed = identities.forget
        auth = AuthSettings(allow_passthrough_keys=passthrough)
        gate = Gate(master_key, find=identities.find, own_key_holder=own_key_holders(auth, SECRETS))
        admin = AdminParts(
            accounts=it.accounts,
            spend_log=SpendLog(it.accounts.admin_line, it.names),
            identify=gate.identify,
            catalog=lambda: CATALOG,
            has_master_key=master_key is not None,
        )
        app = create_app(
            ApiParts(
                embeddings=_unused,
                catalog=lambda: CATALOG,
                health=_healthy,
                identify=gate.identify,
                admin=admin,
            )
        )
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Office(it, client, identities)


def record(
    request: str,
    *,
    account: str = "caller:master",
    part: int = 0,
    jobs: int = 1,
    tokens: int = 10,
    price: int = 1_000,
    accounts: tuple[str, ...] = (),
    metadata: str = "",
    reason: str = "",
    model: str = "m",
) -> LedgerRecord:
    """One ending of one part of a request."""
    waste = tokens if reason else 0
    return LedgerRecord(
        pack_id=f"pack-{request}",
        number=part,
        account=account,
        model=model,
        provider="openai",
        used=tokens - waste,
        paid=tokens,
        saved=0,
        waste=waste,
        reason=reason,
        items=1,
        price_per_token_pico_usd=price,
        bill=Bill(
            request=request,
            jobs=jobs,
            accounts=list(accounts),
            call_id=f"req_{request}",
            metadata=metadata,
            part=part,
        ),
    )


def log(valkey: RedisServer, *entries: list[LedgerRecord], at_ms: int | None = None) -> None:
    """Add entries to the spend log, as the roll-up does."""
    with valkey.client() as client:
        for index, records in enumerate(entries):
            entry_id = "*" if at_ms is None else f"{at_ms + index}-0"
            client.xadd(
                Names().spend_log, {"r": encode(records), "i": "1-1", "l": "m"}, id=entry_id
            )


def spend(valkey: RedisServer, kind: AccountKind, account_id: str, **sums: int) -> None:
    """Add up what an account spent, as the roll-up does."""
    names = Names()
    with valkey.client() as client:
        client.hset(names.account(account_name(kind, account_id)).account, mapping=sums)
        client.zadd(names.accounts(kind.value), {account_id: 1_800_000_000})
