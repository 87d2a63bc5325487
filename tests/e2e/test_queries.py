"""Whatever dashboards, rules and alerts ask, a real Prometheus in front of a real pool can answer.

An alert that does not fire answers nothing, and one that never could would look the same: so of an
alert, everything that it compares must answer.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import httpx
import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.asking import all_at_once, asked
from e2e.batches import begun, client_of, ended, line, numbered
from e2e.boards import offers, questions, sent
from e2e.keys import MASTER, SHORT_DIMS, Office, bearer, guarded, short_entry
from e2e.pools import Pool, serving
from embedpool_shared.measures import Role
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.ports import free_port
from support.processes import ROOT, NotInTime, wait_until
from support.prometheus import Prometheus, prometheus
from unit.grafana.promql import PROMETHEUS_OWN, SERIES, recorded, rules, used

TOKEN: Final = "a-token-for-scraping"
NAMESPACE: Final = "asked"
GOOD, FAILING, BAD = "sk-good-0123456789abcdef", "sk-fails-0123456789abcdef", "sk-bad-0123456789ab"
OWN: Final = "sk-proj-a-callers-own-0123456789abcdef"
MODELS: Final = ("small", "other", "rejected")
BULK: Final = {"x-embedpool-class": "bulk"}
PATIENCE_S: Final = 20.0
GLANCE_S: Final = 0.1
EMPTY: Final = {
    "EmbedpoolProviderSlow: 2 * histogram_quantile( 0.9, sum by (cluster, namespace, provider, le) "
    "(rate(embedpool_call_seconds_bucket[1h] offset 10m)) )": (
        "tests/unit/grafana/test_rules.py::test_alerts_fire_when_they_should_and_only_then"
    ),
}
"""What has no data here for a good reason, and the test in which it has."""


@dataclass(frozen=True, slots=True)
class Site:
    """A pool that had all kinds of traffic, its targets, and the Prometheus that watched."""

    pool: Pool
    ports: dict[Role, list[int]]
    prometheus: Prometheus

    def shown(self) -> set[str]:
        """Name every metric that the targets show."""
        return set(chain.from_iterable(map(shown_at, chain(*self.ports.values()))))


def shown_at(port: int) -> set[str]:
    """Name every metric that a target shows, as it is documented."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=bearer(TOKEN))
    families = text_string_to_metric_families(answer.text)
    return {f"{it.name}_total" if it.type == "counter" else it.name for it in families}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=SHORT_DIMS, latency_s=0.01) as provider:
        yield provider


@pytest.fixture(scope="module")
def site(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ports = {role: [free_port()] for role in (Role.API, Role.WORKER)}
    env = {f"EMBEDPOOL_METRICS_{role.name}_PORT": str(port) for role, (port,) in ports.items()}
    directory = tmp_path_factory.mktemp("prometheus")
    with (
        prometheus({NAMESPACE: ports}, directory, token=TOKEN, every_s=1) as server,
        serving(config=config(fake), env=env) as pool,
        httpx.Client(trust_env=False, timeout=30) as client,
    ):
        # Something must have been scraped before it counts, of every model: only growth is a rate.
        server.wait_until_all_is_scraped()
        wait_until(
            lambda: all(
                server.now(f'embedpool_queue_seconds_count{{model="{m}"}}') for m in MODELS
            ),
            patience_s=PATIENCE_S,
            what="every model's series at zero",
            glance_s=GLANCE_S,
        )
        make_traffic(pool, fake, Office(pool.url, client))
        yield Site(pool, ports, server)


def config(fake: FakeProvider) -> dict[str, Any]:
    """Write the configuration of a pool in which everything is on that has metrics."""
    small = short_entry("small", fake, GOOD, FAILING, input_cost_per_token=0.001)
    small["litellm_params"] |= {"rpm": 60_000, "tpm": 10_000_000, "passthrough": True}
    return guarded(
        fake,
        small,
        short_entry("other", fake, GOOD),
        short_entry("rejected", fake, BAD),
        metrics={"token": TOKEN},
        auth={"allow_passthrough_keys": True},
        litellm_settings={"cache": True},
    )


def make_traffic(pool: Pool, fake: FakeProvider, office: Office) -> None:
    """Ask for all kinds of things, of a provider that fails in all kinds of ways."""
    team = office.post("/team/new", team_id="searchers")["team_id"]
    key = office.key(team_id=team)
    caller = bearer(key)
    limited = bearer(office.key(rpm_limit=1))
    fake.behave(
        Behaviour(key=FAILING, status=429, calls=1, headers={"retry-after": "30"}),
        Behaviour(containing="unsteady", status=500, calls=1),
        Behaviour(containing="unwelcome", status=400),
        Behaviour(key=BAD, status=401),
    )
    for who, headers in enumerate((caller, caller | BULK, bearer(MASTER), limited, bearer(OWN))):
        for model in MODELS:
            at_once(pool, headers, *(asked(model, f"{who}: text {n % 6}") for n in range(12)))
    at_once(pool, caller, asked("small", ["unsteady", "0: text 0"]))
    at_once(pool, caller, asked("small", ["unwelcome", "a", "b", "c"]))
    at_once(pool, caller, asked("nobody-has-it", "text"), asked("small", []))
    at_once(pool, bearer("nobodys"), asked("small", "text"))
    with client_of(pool, key) as client:
        ended(client, begun(client, [*numbered(50), line("bad", "")]))


def at_once(pool: Pool, headers: dict[str, str], *bodies: dict[str, Any]) -> None:
    """Ask all of these at once, whatever the answers."""
    asyncio.run(all_at_once(pool.url, bodies, headers))


def test_every_panel_and_every_mark_has_data(site: Site) -> None:
    wanted = {f"{it.where}: {it.expr}": sent(it.expr) for it in questions()}

    assert left_empty(site, wanted) == set(EMPTY) & wanted.keys()


def test_every_panel_has_data_with_every_box_of_every_variable_ticked(site: Site) -> None:
    ticked: dict[str, dict[str, str]] = defaultdict(dict)
    for (board, label), values in offered_by(site.prometheus).items():
        ticked[board][label] = f"({'|'.join(map(re.escape, values))})".replace("\\", "\\\\")
    wanted = {f"{it.where}: {it.expr}": sent(it.expr, ticked[it.board]) for it in questions()}

    assert left_empty(site, wanted) == set(EMPTY) & wanted.keys()


def test_every_variable_offers_something(site: Site) -> None:
    offered = offered_by(site.prometheus)

    assert [where for where, values in offered.items() if not values] == []
    assert offered["embedpool-overview", "namespace"] == [NAMESPACE]
    assert offered["embedpool-overview", "model"] == ["other", "rejected", "small", "unknown"]
    assert offered["embedpool-keys-and-spend", "team"] == ["-", "other", "searchers"]


def offered_by(server: Prometheus) -> dict[tuple[str, str], list[str]]:
    """Ask for what each variable of each board offers."""
    return {
        (it.board, it.label): server.ask(f"label/{it.label}/values", **{"match[]": sent(it.series)})
        for it in offers()
    }


def test_every_recording_rule_records(site: Site) -> None:
    wanted = {name: name for name in recorded()}

    assert left_empty(site, wanted) == set()


def test_whatever_an_alert_compares_has_data(site: Site) -> None:
    wanted = {
        f"{rule['alert']}: {' '.join(part.split())}": part
        for rule in rules()
        if "alert" in rule
        for part in compared(promql_parser.parse(rule["expr"]))
    }

    assert left_empty(site, wanted) == set(EMPTY) & wanted.keys()


def test_a_batch_and_its_lines_are_counted(site: Site) -> None:
    answered = 'embedpool_bulk_rows_total{outcome="answered"}'
    wanted = [
        'embedpool_bulk_jobs{state="completed"} == 1',
        f"{answered} == 50",
        'embedpool_bulk_rows_total{outcome="failed"} == 1',
        f"rate({answered}[1m]) > 0",
    ]

    assert left_empty(site, {expr: expr for expr in wanted}) == set()


def test_no_rule_has_an_error(site: Site) -> None:
    found = site.prometheus.rules()

    assert len(found) == len(rules())
    assert {rule["name"]: rule["lastError"] for rule in found if rule.get("lastError")} == {}


def test_every_metric_asked_for_is_shown_or_recorded(site: Site) -> None:
    exprs = [*(it.expr for it in questions()), *(it.series for it in offers())]
    exprs += [rule["expr"] for rule in rules()]
    names = {it.name for expr in exprs for it in used(expr).selectors}
    known = site.shown()

    assert names - PROMETHEUS_OWN - recorded().keys() <= SERIES.keys()
    assert {SERIES[name].name for name in names & SERIES.keys()} <= known


def test_no_metric_is_shown_that_the_page_does_not_name(site: Site) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")

    assert site.shown() == set(re.findall(r"^\| `(embedpool_\w+)` \|", page, re.MULTILINE))


def test_what_is_empty_here_is_filled_by_a_test_that_exists() -> None:
    assert len(EMPTY) <= 5
    for test in EMPTY.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / Path(path)).read_text("utf-8")


def compared(expr: Any) -> Iterable[str]:
    """List the parts of an expression that have a value whatever it is compared to."""
    match expr:
        case promql_parser.ParenExpr():
            return compared(expr.expr)
        case promql_parser.BinaryExpr() if str(expr.op) in {*FILTERS, *COMPARISONS}:
            return chain(compared(expr.lhs), compared(expr.rhs))
        case promql_parser.NumberLiteral():
            return ()
        case _:
            return (expr.prettify(),)


FILTERS: Final = ("and", "or", "unless")
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")


def left_empty(site: Site, wanted: dict[str, str]) -> set[str]:
    """Name the expressions that are still without data when patience ends."""
    left = dict(wanted)

    def all_have_data() -> bool:
        for name, expr in list(left.items()):
            if site.prometheus.now(expr):
                del left[name]
        return left.keys() <= EMPTY.keys()

    with suppress(NotInTime):
        wait_until(all_have_data, patience_s=PATIENCE_S, what="data", glance_s=GLANCE_S)
    return set(left)
