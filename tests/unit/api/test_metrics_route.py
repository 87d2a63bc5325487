"""`/metrics` on the api's own port: for the master key or the scraper's token, and nobody else."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pytest
from pydantic import SecretStr

from embedpool_api.callers import Gate, key_holder
from embedpool_api.routes.metrics import MetricsParts
from embedpool_shared.accounts import Identity, KeyRecord
from embedpool_shared.config.settings import MetricsSettings
from embedpool_shared.telemetry.exporter import is_token
from unit.api.test_app import app, ask

MASTER: Final = "sk-a-long-and-random-master-key"
TOKEN: Final = "a-token-for-scraping"
VIRTUAL: Final = "sk-ep-somebody"
SAID: Final = b"embedpool_build_info 1\n"
HOLDER: Final = Identity(key=KeyRecord(id="k-1", digest="d", name="sk-ep-…body"))


async def find(key: bytes) -> Identity | None:
    return HOLDER if key == VIRTUAL.encode() else None


def edge(*, master_key: str | None = MASTER, token: str | None = TOKEN) -> Any:
    settings = MetricsSettings(token=SecretStr(token) if token else None)
    identify = Gate(master_key, find=find).identify
    parts = MetricsParts(
        target=lambda: SAID,
        identify=identify,
        is_token=partial(is_token, settings),
        has_master_key=master_key is not None,
    )
    return app(identify=identify, metrics=parts)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (bearer(MASTER), 200),
        (bearer(TOKEN), 200),
        ({"api-key": TOKEN}, 200),
        (bearer(VIRTUAL), 403),
        (bearer("sk-nobodys"), 401),
        ({}, 401),
    ],
    ids=["master key", "token", "token, Azure's way", "virtual key", "nobody's key", "no key"],
)
def test_who_may_read_them(headers: dict[str, str], status: int) -> None:
    answer = ask("GET", "/metrics", of=edge(), headers=headers)

    assert answer.status_code == status
    assert (answer.content == SAID) == (status == 200)


def test_in_open_mode_this_machine_may_and_no_other_name() -> None:
    opened = edge(master_key=None, token=None)

    assert ask("GET", "/metrics", of=opened).content == SAID
    stranger = ask("GET", "/metrics", of=opened, headers={"host": "rebound.example"})
    assert stranger.status_code == 401


def test_nobody_keeps_them() -> None:
    answer = ask("GET", "/metrics", of=edge(), headers=bearer(TOKEN))

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_without_parts_there_is_no_such_path() -> None:
    assert ask("GET", "/metrics").status_code == 404


def test_the_holder_of_this_test_is_no_admin() -> None:
    assert not key_holder(HOLDER).is_admin
