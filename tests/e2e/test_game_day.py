"""Game day: whatever breaks, one panel of the Overview or one alert names it within a minute.

Each fault has a pool of its own, and one more pool has none: same traffic, same Prometheus, which
scrapes and evaluates as often as the repository's configuration says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pytest

from e2e.boards import panel_of, sent
from e2e.game_day import INJECTIONS, TOKEN, Place, Subject, callers_of_the_day, place
from embedpool_grafana.faults import FAULTS, ByAlert, ByPanel, Fault
from embedpool_grafana.overview import OVERVIEW
from embedpool_grafana.panels import GOOD
from support.processes import NotInTime, wait_until
from support.prometheus import Prometheus, Series, prometheus
from support.tools import tool

pytestmark = [pytest.mark.long, pytest.mark.timeout(360)]

CALM: Final = "calm"
WITHIN_S: Final = 60.0
BEFORE_S: Final = 60.0
"""So long is nothing wrong anywhere: as long as it may then take to say what is."""
WRONG_NOW: Final = "What is wrong now"
ALL_DAY: Final = "10m"
SCRAPED_EVERY_S: Final = 15
GLANCE_S: Final = 0.5
STARTERS: Final = 3


@dataclass(slots=True)
class Day:
    """What was seen of each pool, by the name of its fault."""

    prometheus: Prometheus
    places: Mapping[str, Place]
    subjects: dict[str, Subject] = field(default_factory=dict)
    broken_at: dict[str, float] = field(default_factory=dict)
    named_after_s: dict[str, float] = field(default_factory=dict)

    def break_all(self) -> None:
        """Break each pool in its way."""
        for fault in FAULTS:
            at = self.places[namespace_of(fault)]
            self.broken_at[fault.what] = time.monotonic()
            self.subjects[fault.what] = INJECTIONS[fault.what](at)

    def watch(self) -> bool:
        """Note the faults that are named by now; true if all are."""
        for fault in FAULTS:
            if fault.what not in self.named_after_s and self._is_named(fault):
                took_s = time.monotonic() - self.broken_at[fault.what]
                self.named_after_s[fault.what] = took_s
        return len(self.named_after_s) == len(FAULTS)

    def _is_named(self, fault: Fault) -> bool:
        about = self.subjects[fault.what].items()
        return any(about <= one.labels.items() for one in self.signs(fault, namespace_of(fault)))

    def signs(self, fault: Fault, namespace: str) -> list[Series]:
        """What the Overview shows that speaks of a fault, somebody having chosen this pool."""
        match fault.shown:
            case ByAlert(alert, _):
                shown = self.shown(WRONG_NOW, namespace)
                return [one for one in shown if one.labels["alertname"] == alert]
            case ByPanel(title, _):
                steps = panel_of(OVERVIEW.uid, title)["fieldConfig"]["defaults"]["thresholds"]
                shown = self.shown(title, namespace)
                return [one for one in shown if colour(one.value, steps["steps"]) != GOOD]

    def shown(self, title: str, namespace: str) -> list[Series]:
        """What a panel of one query shows now of a pool."""
        (target,) = panel_of(OVERVIEW.uid, title)["targets"]
        return self.prometheus.now(sent(target["expr"], {"namespace": namespace}))

    def alerts_ever(self, namespace: str) -> set[str]:
        """Name the alerts that fired for a pool at any time."""
        firing = f'ALERTS{{alertstate="firing", namespace="{namespace}"}}'
        ever = self.prometheus.now(f"count_over_time({firing}[{ALL_DAY}])")
        return {one.labels["alertname"] for one in ever}

    def highest_ever(self, title: str, namespace: str) -> list[Series]:
        """What a panel showed at any time, at its highest."""
        (target,) = panel_of(OVERVIEW.uid, title)["targets"]
        expr = sent(target["expr"], {"namespace": namespace})
        return self.prometheus.now(f"max_over_time(({expr})[{ALL_DAY}:5s])")


def namespace_of(fault: Fault) -> str:
    """Name the pool that has this fault."""
    return fault.what.replace(" ", "-")


def colour(value: float, steps: list[Any]) -> str:
    """Say in which colour a panel with these thresholds shows a value."""
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return str(reached[-1]["color"])


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    tool("prometheus", package="prometheus")  # without it, nothing else need be started
    names = [CALM, *map(namespace_of, FAULTS)]
    with ExitStack() as open_until_night:
        callers = open_until_night.enter_context(callers_of_the_day())
        # Threads that stay: a process ends with the thread that started it.
        starters = open_until_night.enter_context(ThreadPoolExecutor(STARTERS))
        stacks = [open_until_night.enter_context(ExitStack()) for _ in names]
        opened = starters.map(lambda stack: stack.enter_context(place(callers)), stacks)
        places = dict(zip(names, opened, strict=True))
        ports = {name: it.ports for name, it in places.items()}
        directory = tmp_path_factory.mktemp("prometheus")
        server = open_until_night.enter_context(prometheus(ports, directory, token=TOKEN))
        server.wait_until_all_is_scraped()
        day = Day(server, places)
        for name in names:
            wait_until_seen(server, name, for_s=BEFORE_S)
        day.break_all()
        with suppress(NotInTime):
            wait_until(day.watch, patience_s=WITHIN_S, what="all are named", glance_s=GLANCE_S)
        # What the calm pool has to say, it may say late.
        wait_until_seen(server, CALM, for_s=BEFORE_S + WITHIN_S)
        yield day


def wait_until_seen(server: Prometheus, namespace: str, *, for_s: float) -> None:
    """Return when Prometheus has seen so much of a pool."""
    seen = f'count_over_time(embedpool_apis_alive{{namespace="{namespace}"}}[{ALL_DAY}])'
    enough = f"{seen} * {SCRAPED_EVERY_S} >= {for_s}"
    wait_until(
        lambda: bool(server.now(enough)),
        patience_s=2 * for_s,
        what=f"{for_s} s of {namespace}",
        glance_s=GLANCE_S,
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_is_named_within_a_minute(day: Day, fault: Fault) -> None:
    assert day.named_after_s.get(fault.what, WITHIN_S + 1) <= WITHIN_S


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_is_not_taken_for_another(day: Day, fault: Fault) -> None:
    of_the_table = {it.shown.alert for it in FAULTS if isinstance(it.shown, ByAlert)}
    own = {fault.shown.alert} if isinstance(fault.shown, ByAlert) else set()

    assert day.alerts_ever(namespace_of(fault)) & of_the_table == own


def test_where_nothing_is_wrong_nothing_is_named(day: Day) -> None:
    assert day.alerts_ever(CALM) == set()
    for fault in FAULTS:
        assert day.signs(fault, CALM) == []
        if isinstance(fault.shown, ByPanel):
            assert day.highest_ever(fault.shown.panel, namespace_of(fault)) != []
            assert day.highest_ever(fault.shown.panel, CALM) == []


def test_the_overview_is_not_blind_while_nobody_works(day: Day) -> None:
    without_workers = next(it for it in FAULTS if it.what == "all workers dead")
    seen = partial(day.shown, namespace=namespace_of(without_workers))

    assert [one.value for one in seen("Workers alive")] == [0]
    assert [one.value for one in seen("Redis")] == [1]
    for title in ("Items waiting", "Oldest pack", "Keys by state", "Requests by status"):
        assert seen(title)


def test_every_fault_of_the_table_is_brought_about() -> None:
    assert INJECTIONS.keys() == {fault.what for fault in FAULTS}
