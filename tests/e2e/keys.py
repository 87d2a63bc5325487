"""Who holds the master key of a pool, whom it gives keys to, and what its books say afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx

from e2e.models import openai_entry
from e2e.pools import Pool
from e2e.store import Store, store_at
from support.fake_provider import FakeProvider
from support.processes import wait_until

MASTER: Final = "sk-a-long-and-random-master-key"
SHORT_DIMS: Final = 24
"""The tests about accounts look at no vector twice, so they ask for short ones."""
SUMS: Final = ("requests", "cost", "used", "paid", "saved", "waste")
Row = dict[str, Any]


def bearer(key: str) -> dict[str, str]:
    """Write the header that carries a key."""
    return {"authorization": f"Bearer {key}"}


def guarded(fake: FakeProvider, *models: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Write the configuration of a pool with a master key; one model, `small`, by default."""
    listed = models or (short_entry("small", fake),)
    return {"model_list": [*listed], "general_settings": {"master_key": MASTER}, **more}


def short_entry(name: str, fake: FakeProvider, *keys: str, **info: Any) -> dict[str, Any]:
    """Write an entry for OpenAI's small model with short vectors."""
    given = {"native_token_ids": True, "output_dimensions": SHORT_DIMS, **info}
    return openai_entry(name, fake, *keys, **given)


class Office:
    """The administrator, by HTTP."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self.client = client

    def ask(self, method: str, path: str, *, key: str = MASTER, **more: Any) -> httpx.Response:
        """Ask as the holder of `key`, whatever comes back."""
        return self.client.request(method, f"{self.url}{path}", headers=bearer(key), **more)

    def post(self, path: str, **fields: Any) -> Row:
        """Post what is welcome, and read the answer."""
        response = self.ask("POST", path, json=fields)
        assert response.status_code == 200, response.text
        answer: Row = response.json()
        return answer

    def get(self, path: str, *, key: str = MASTER, **query: Any) -> Any:
        """Get what may be got, and read the answer."""
        response = self.ask("GET", path, key=key, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def made(self, **fields: Any) -> Row:
        """Make a key and show all about it."""
        return self.post("/key/generate", **fields)

    def key(self, **fields: Any) -> str:
        """Make a key."""
        secret: str = self.made(**fields)["key"]
        return secret

    def of_key(self, key: str) -> Row:
        """Show what is known of a key, what it spent included."""
        response = self.ask("GET", "/key/info", params={"key": key})
        assert response.status_code == 200, response.text
        info: Row = response.json()["info"]
        return info

    def spending(self, kind: str) -> dict[str, Row]:
        """Say what each key, team or user spent, by its id."""
        name = {"key": "token_id", "team": "team_id", "user": "user_id"}[kind]
        return {row[name]: row for row in self.get(f"/spend/{kind}s", size=1_000)}

    def log(self, **wanted: Any) -> list[Row]:
        """Export the usage records, oldest first."""
        response = self.ask("GET", "/spend/logs", params={"format": "jsonl", **wanted})
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.splitlines()]


class Books:
    """What accounts have in the pool's Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client = store.client

    def wait_until_settled(self, *, patience_s: float = 15.0) -> None:
        """Return when nothing waits and every record is in the accounts; raises `NotInTime`."""
        self._store.wait_until_quiet(patience_s=patience_s)
        wait_until(lambda: not self._unsettled(), patience_s=patience_s, what="rolled up")

    def wait_until_nothing_is_held(self, *, patience_s: float = 15.0) -> None:
        """Return when nobody has a reservation or a request in flight; raises `NotInTime`."""
        self.wait_until_settled(patience_s=patience_s)
        wait_until(lambda: not self.held(), patience_s=patience_s, what="nothing is held")

    def held(self) -> dict[str, Any]:
        """Every reservation and every lease, by the name of its account."""
        names = self._client.keys("*:held")
        return {name.decode(): self._client.hgetall(name) for name in names}

    def admitted(self, account: str) -> tuple[int, int]:
        """Say how many requests and tokens count against an account's minute."""
        sums = self._client.hget(f"ep:{{acct:{account}}}:window", ":sums") or b"0 0"
        requests, tokens, *_ = map(int, sums.split())
        return requests, tokens

    def sums(self, account: str) -> dict[str, int]:
        """Read what was added up for an account; money in pico-dollars."""
        found = self._client.hmget(f"ep:{{acct:{account}}}", *SUMS)
        return {name: int(value or 0) for name, value in zip(SUMS, found, strict=True)}

    def accounts(self, kind: str) -> list[str]:
        """Name every account of a kind that anything is known of."""
        names = self._client.keys(f"ep:{{acct:{kind}:*}}")
        return [name.decode().removeprefix("ep:{acct:").removesuffix("}") for name in names]

    def lasts(self, account: str) -> bool:
        """Tell whether an account is kept for good."""
        return bool(self._client.pttl(f"ep:{{acct:{account}}}") == -1)

    def dump(self) -> None:
        """Write everything there is to the RDB file, as it is, beside the AOF."""
        self._client.config_set("rdbcompression", "no")
        self._client.save()

    def _unsettled(self) -> list[bytes]:
        waiting = [name for name in self._client.keys("*:ledger") if self._client.xlen(name)]
        rolled: list[bytes] = self._client.keys("*}:roll")
        return waiting + rolled


@contextmanager
def books_of(pool: Pool) -> Iterator[Books]:
    """Look into the books of a pool."""
    with store_at(pool.store_url) as store:
        yield Books(store)
