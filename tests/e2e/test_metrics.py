"""Two scrape targets whatever the number of processes, every metric there is, a log that joins."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from e2e.keys import MASTER, bearer, guarded, short_entry
from e2e.pools import Pool, serving
from embedpool_shared.measures import Kind, Role, measures_of
from support.fake_provider import FakeProvider
from support.ports import free_port
from support.processes import wait_until

pytestmark = pytest.mark.long

CANARY: Final = "canary-text-of-a-caller"
KEYS: Final = ("sk-the-first-key-of-this-test-1234", "sk-the-second-key-of-this-test-5678")
TOKEN: Final = "a-token-for-scraping"
MANY_MODELS: Final = 100
SCRAPES: Final = 10
SCRAPED_EVERY_S: Final = 15


@dataclass(frozen=True)
class Scraped:
    """A pool and its targets."""

    pool: Pool
    ports: Mapping[Role, int]

    def families(self, role: Role) -> dict[str, Metric]:
        """Scrape a role."""
        url = f"http://127.0.0.1:{self.ports[role]}/metrics"
        answer = httpx.get(url, headers=bearer(TOKEN))
        assert answer.status_code == 200
        return {it.name: it for it in text_string_to_metric_families(answer.text)}

    def total(self, role: Role, name: str, **labels: str) -> float:
        """Add up the samples of a metric that have these labels."""
        family = self.families(role).get(name.removesuffix("_total"))
        return sum(
            sample.value
            for sample in (family.samples if family else ())
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def series(self, role: Role) -> int:
        """Count a role's series."""
        return sum(len(family.samples) for family in self.families(role).values())

    def embed(self, *texts: str, model: str = "small", **headers: str) -> httpx.Response:
        """Ask for vectors."""
        return httpx.post(
            f"{self.pool.url}/v1/embeddings",
            json={"model": model, "input": list(texts)},
            headers={**bearer(MASTER), **headers},
            timeout=30,
        )

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What the log has of an event."""
        written = self.pool.program.output.splitlines()
        found = (json.loads(line) for line in written if line.startswith('{"event"'))
        return [line for line in found if line["event"] == event]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=24) as provider:
        yield provider


@pytest.fixture(scope="module")
def scraped(fake: FakeProvider) -> Iterator[Scraped]:
    ports = {Role.API: free_port(), Role.WORKER: free_port()}
    limited = short_entry("small", fake, *KEYS)
    limited["litellm_params"] |= {"rpm": 60_000}
    config = guarded(fake, limited, metrics={"token": TOKEN})
    flags = ("--api-processes", "2", "--workers", "2")
    env = {
        "EMBEDPOOL_LOG_LEVEL": "DEBUG",
        "EMBEDPOOL_METRICS_API_PORT": str(ports[Role.API]),
        "EMBEDPOOL_METRICS_WORKER_PORT": str(ports[Role.WORKER]),
    }
    with serving(*flags, config=config, env=env) as pool:
        yield Scraped(pool, ports)


def test_each_role_has_one_target_that_counts_all_of_its_processes(scraped: Scraped) -> None:
    before = scraped.total(Role.API, "embedpool_requests_total", route="embeddings", status="200")
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda n: scraped.embed(f"{CANARY} {n}"), range(64)))
    assert {answer.status_code for answer in answers} == {200}

    def all_are_counted() -> bool:
        now = scraped.total(Role.API, "embedpool_requests_total", model="small", status="200")
        return now == before + 64

    wait_until(all_are_counted, patience_s=5, what="every request is counted")
    assert scraped.total(Role.API, "embedpool_apis_alive") == 2
    assert scraped.total(Role.API, "embedpool_workers_alive") == 2
    calls = scraped.total(Role.WORKER, "embedpool_calls_total", model="small", outcome="ok")
    saved = scraped.total(Role.WORKER, "embedpool_calls_saved_total", model="small")
    assert calls + saved == before + 64


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
def test_a_target_shows_every_metric_of_its_role_and_nothing_else(
    scraped: Scraped, role: Role
) -> None:
    shown = scraped.families(role)

    wanted = {it.name.removesuffix("_total"): it for it in measures_of(role)}
    assert shown.keys() == wanted.keys()
    for name, measure in wanted.items():
        family = shown[name]
        assert (family.type, family.documentation) == (measure.kind.value, measure.help)
        own = {"le"} if measure.kind is Kind.HISTOGRAM else set()
        assert all(set(it.labels) - own == set(measure.label_names) for it in family.samples)
        for label in measure.labels:
            values = {sample.labels[label.name] for sample in family.samples}
            assert not label.values or values <= set(label.values)


def test_names_that_callers_make_up_make_no_series(scraped: Scraped) -> None:
    before = scraped.series(Role.API)
    asked_before = scraped.total(Role.API, "embedpool_requests_total", model="unknown")
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda n: scraped.embed("x", model=f"made-up-{n}"), range(1_000)))

    def all_are_counted() -> bool:
        now = scraped.total(Role.API, "embedpool_requests_total", model="unknown")
        return now == asked_before + 1_000

    wait_until(all_are_counted, patience_s=5, what="every request is counted")
    assert scraped.series(Role.API) <= before + 1


def test_a_worker_that_dies_takes_its_gauges_along_and_no_count(scraped: Scraped) -> None:
    scraped.embed("once more")
    before = scraped.total(Role.WORKER, "embedpool_calls_total", outcome="ok")
    dead = scraped.pool.workers()[0]

    os.kill(dead.pid, signal.SIGKILL)
    wait_until(lambda: is_replaced(scraped.pool, dead.pid), patience_s=20, what="a new worker")

    assert scraped.total(Role.WORKER, "embedpool_calls_total", outcome="ok") >= before
    assert scraped.total(Role.WORKER, "embedpool_calls_in_flight") == 0


def is_replaced(pool: Pool, dead: int) -> bool:
    pids = [worker.pid for worker in pool.workers()]
    return len(pids) == 2 and dead not in pids


def test_a_request_and_its_call_join_in_the_log_and_neither_has_its_text(
    scraped: Scraped,
) -> None:
    scraped.embed(f"{CANARY} of its own", **{"x-request-id": "the-one"})

    def of_the_request() -> list[dict[str, Any]]:
        return [line for line in scraped.lines("request") if line["id"] == "the-one"]

    wait_until(lambda: bool(of_the_request()), patience_s=5, what="its line")
    [request] = of_the_request()
    calls = [it for it in scraped.lines("provider_call") if set(it["jobs"]) & set(request["jobs"])]
    assert [call["outcome"] for call in calls] == ["ok"]
    assert request["deployment"] == calls[0]["deployment"]

    output = scraped.pool.program.output
    for secret in (CANARY, *KEYS, MASTER, TOKEN):
        assert secret not in output


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), (bearer("another-token-altogether"), 401), (bearer(MASTER), 401)],
    ids=["nothing", "another token", "the master key"],
)
def test_a_role_of_its_own_port_wants_the_token(
    scraped: Scraped, headers: dict[str, str], status: int
) -> None:
    for port in scraped.ports.values():
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers).status_code == status


@pytest.mark.parametrize("key", [MASTER, TOKEN])
def test_the_apis_own_port_shows_the_same_to_master_key_and_token(
    scraped: Scraped, key: str
) -> None:
    answer = httpx.get(f"{scraped.pool.url}/metrics", headers=bearer(key))

    assert answer.status_code == 200
    assert "embedpool_apis_alive 2.0" in answer.text


def test_a_port_that_is_taken_is_one_warning_and_nothing_is_left_of_the_run(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = {
            "EMBEDPOOL_METRICS_API_PORT": port,
            "EMBEDPOOL_METRICS_WORKER_PORT": "0",
            "TMPDIR": str(tmp_path),
        }
        with serving(env=env) as pool:
            assert httpx.get(f"{pool.url}/metrics").status_code == 200
            assert pool.program.output.count('"metrics_not_served"') == 1
            [run] = tmp_path.glob("embedpool-run-*")
            os.kill(pool.program.pid, signal.SIGTERM)
            wait_until(lambda: not pool.program.is_running, patience_s=10, what="the end")

    assert not run.exists()


def test_scraping_a_pool_of_a_hundred_models_takes_less_than_a_hundredth_of_a_core(
    fake: FakeProvider,
) -> None:
    ports = {role: free_port() for role in (Role.API, Role.WORKER)}
    env = {f"EMBEDPOOL_METRICS_{role.name}_PORT": str(port) for role, port in ports.items()}
    models = (short_entry(f"model-{number}", fake, *KEYS) for number in range(MANY_MODELS))
    config = guarded(fake, *models, metrics={"token": TOKEN})
    with serving("--api-processes", "2", "--workers", "2", config=config, env=env) as pool:
        many = Scraped(pool, ports)
        wait_until(
            lambda: all(many.series(role) > MANY_MODELS * 100 for role in ports),
            patience_s=10,
            what="all models are there, and written for the first time",
        )
        before_s = cpu_s_of_parent(pool)
        for port in [*ports.values()] * SCRAPES:
            httpx.get(f"http://127.0.0.1:{port}/metrics", headers=bearer(TOKEN))

        assert (cpu_s_of_parent(pool) - before_s) / SCRAPES < 0.01 * SCRAPED_EVERY_S


def cpu_s_of_parent(pool: Pool) -> float:
    """The CPU time of the process that is scraped."""
    (parent,) = [member for member in pool.program.members() if member.pid == pool.program.pid]
    return parent.cpu_s
