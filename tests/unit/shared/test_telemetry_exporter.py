"""A role's port: who may scrape it, and that it harms nobody."""

from __future__ import annotations

import logging
import socket
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr

from embedpool_shared.config.settings import MetricsSettings
from embedpool_shared.measures import Role
from embedpool_shared.telemetry.exporter import exported
from support.ports import free_port

TOKEN: Final = "a-token-for-scraping"
SAID: Final = b"embedpool_build_info 1\n"


def settings(**changes: Any) -> MetricsSettings:
    return MetricsSettings(api_port=free_port(), worker_port=0, **changes)


def scraped(
    given: MetricsSettings,
    path: str = "/metrics",
    **headers: str,
) -> httpx.Response:
    with exported(Role.API, given, lambda: SAID) as port:
        return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers)


def test_this_machine_may_scrape_where_there_is_no_token() -> None:
    answer = scraped(settings())

    assert (answer.status_code, answer.content) == (200, SAID)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer another-token-altogether"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer  {TOKEN}"}, 200),
    ],
    ids=["nothing", "another token", "another scheme", "the token", "the token, sloppily"],
)
def test_a_token_opens_and_nothing_else(given: dict[str, str], status: int) -> None:
    answer = scraped(settings(token=SecretStr(TOKEN)), **given)

    assert answer.status_code == status
    assert (answer.content == SAID) == (status == 200)


def test_a_page_of_somebody_elses_cannot_read_it_by_a_name_of_its_own() -> None:
    assert scraped(settings(), host="rebound.example:9400").status_code == 403


def test_there_is_nothing_else() -> None:
    assert scraped(settings(), "/").status_code == 404


def test_a_scrape_that_fails_is_a_500_and_the_next_one_works() -> None:
    answers = iter([RuntimeError("boom"), SAID])

    def target() -> bytes:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, bytes)
        return found

    with exported(Role.API, settings(), target) as port:
        statuses = [httpx.get(f"http://127.0.0.1:{port}/metrics").status_code for _ in range(2)]

    assert statuses == [500, 200]


def test_a_port_that_is_taken_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    given = settings()
    with (
        socket.create_server(("127.0.0.1", given.api_port)),
        exported(Role.API, given, lambda: SAID) as port,
    ):
        assert port is None

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert str(given.api_port) in record.getMessage()


def test_port_zero_is_off(caplog: pytest.LogCaptureFixture) -> None:
    with exported(Role.WORKER, settings(), lambda: SAID) as port:
        assert port is None

    assert not caplog.records
