"""What processes leave in their directory adds up to one target, whoever of them lives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedpool_shared.measures import Role, measure
from embedpool_shared.telemetry.exposition import Exposition, Reading
from embedpool_shared.telemetry.first_names import FirstNames
from embedpool_shared.telemetry.meters import Meters
from embedpool_shared.telemetry.outlet import Outlet
from embedpool_shared.telemetry.run_directory import (
    START,
    living_slots,
    new_run_directory,
    role_directory,
    take_slot,
)
from support.tools import tool

ANOTHER: Final = """
import sys
from pathlib import Path
from embedpool_shared.telemetry.meters import Meters
from embedpool_shared.telemetry.outlet import Outlet
meters = Meters()
refused, levels = meters.counts("refusals_total"), meters.levels("requests_in_flight")
took = meters.spreads("commit_seconds")
outlet = Outlet(meters, Path(sys.argv[1]))
refused.of("rpm").add(5)
levels.of().add(3)
took.of().note(0.3)
outlet.carry_out()
print("carried out", flush=True)
sys.stdin.read()
"""


class Process:
    """One process' worth of instruments."""

    def __init__(self, directory: Path) -> None:
        self.meters = Meters()
        self.refusals = self.meters.counts("refusals_total")
        self.in_flight = self.meters.levels("requests_in_flight").of()
        self.redis_up = self.meters.levels("redis_up").of("api")
        self.took_s = self.meters.spreads("commit_seconds").of()
        self.outlet = Outlet(self.meters, directory)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Begins processes; those that still live at the end leave."""
    begun: list[Process] = []

    def begin() -> Process:
        begun.append(Process(tmp_path))
        return begun[-1]

    yield begin
    for one in begun:
        one.outlet.close()


def shown(directory: Path, *readings: Reading) -> dict[str, float]:
    """The target's samples; labels are part of the name."""
    text = Exposition(directory).text(living_slots(directory), readings).decode()
    return {
        sample.name.removeprefix("embedpool_") + "".join(f" {v}" for v in sample.labels.values()): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_processes_add_up_and_gauges_combine_as_the_table_says(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    for amount in (1, 10):
        one = process()
        one.refusals.of("rpm").add(amount)
        one.in_flight.set(amount)
        one.took_s.note(0.2)
        one.redis_up.set(amount == 1)
        one.outlet.carry_out()

    found = shown(tmp_path)

    assert found["refusals_total rpm"] == 11
    assert found["requests_in_flight"] == 11
    assert found["redis_up api"] == 0
    assert found["commit_seconds_count"] == 2
    assert found["commit_seconds_bucket 0.1"] == 0
    assert found["commit_seconds_bucket 0.25"] == 2
    assert found["commit_seconds_sum"] == pytest.approx(0.4)


def test_what_was_never_counted_is_there_at_zero(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    one = process()
    one.refusals.of("budget")
    one.outlet.carry_out()

    assert shown(tmp_path)["refusals_total budget"] == 0


def test_a_killed_process_takes_its_gauges_along_and_leaves_its_counts(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as another:  # fmt: skip
        assert another.stdout
        assert another.stdout.readline() == "carried out\n"
        alive = shown(tmp_path)
        another.kill()

    dead = shown(tmp_path)

    assert alive["requests_in_flight"] == 3
    assert "requests_in_flight" not in dead
    assert dead["refusals_total rpm"] == alive["refusals_total rpm"] == 5
    assert dead["commit_seconds_count"] == 1


def test_who_comes_next_in_a_slot_goes_on_counting(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.refusals.of("rpm").add(5)
    first.in_flight.set(7)
    first.took_s.note(0.2)
    first.outlet.close()

    second = Process(tmp_path)
    second.outlet.carry_out()
    assert shown(tmp_path)["requests_in_flight"] == 0
    second.refusals.of("rpm").add(2)
    second.took_s.note(0.2)
    second.outlet.close()

    assert shown(tmp_path)["refusals_total rpm"] == 7
    assert shown(tmp_path)["commit_seconds_count"] == 2
    assert len(list(tmp_path.glob("counter_*.db"))) == 1


def test_what_was_read_just_now_is_shown_beside_it(tmp_path: Path) -> None:
    reading = Reading(measure("queue_items"), ("m",), 12.0)

    assert shown(tmp_path, reading) == {"queue_items m": 12.0}


def test_a_slot_is_taken_while_its_process_lives(tmp_path: Path) -> None:
    first, second = take_slot(tmp_path), take_slot(tmp_path)
    assert (first.number, second.number) == (0, 1)
    assert living_slots(tmp_path) == {0, 1}

    first.leave()

    assert living_slots(tmp_path) == {1}
    assert take_slot(tmp_path).number == 0
    second.leave()


def test_a_run_leaves_nothing_and_takes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"{START}left"
    left.mkdir()
    (left / "owner.lock").touch()

    with new_run_directory() as first, new_run_directory() as second:
        assert not left.exists()
        assert first.is_dir()
        assert role_directory(second, Role.API).is_dir()

    assert list(tmp_path.iterdir()) == []


def test_without_a_directory_nothing_is_written_anywhere() -> None:
    outlet = Outlet(Meters(), None)

    outlet.carry_out()
    outlet.close()


def test_all_processes_agree_on_the_first_names(tmp_path: Path) -> None:
    one, two = (FirstNames(tmp_path / "teams", most=3, rest="other") for _ in range(2))

    assert [one.of(name) for name in ("red", "blue")] == ["red", "blue"]
    assert [two.of(name) for name in ("green", "grey", "red")] == ["green", "other", "red"]
    assert [one.of(name) for name in ("grey", "green", "blue")] == ["other", "green", "blue"]


def test_a_name_of_two_lines_is_one_name(tmp_path: Path) -> None:
    names = FirstNames(tmp_path / "teams", most=2, rest="other")

    assert names.of("a\nb") == "a b"
    assert names.of("a\nb") == "a b"
    assert names.of("c") == "c"


def test_a_target_is_written_as_prometheus_reads_it(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    one = process()
    one.refusals.of("rpm").add(2)
    one.outlet.carry_out()
    odd = Reading(measure("queue_items"), ('a "model" \\ of\ntwo lines',), 0.5)

    lines = Exposition(tmp_path).text(living_slots(tmp_path), [odd]).decode().splitlines()

    refused = lines.index('embedpool_refusals_total{reason="rpm"} 2.0')
    assert lines[refused - 2 : refused] == [
        "# HELP embedpool_refusals_total Requests refused before the queue.",
        "# TYPE embedpool_refusals_total counter",
    ]
    assert 'embedpool_queue_items{model="a \\"model\\" \\\\ of\\ntwo lines"} 0.5' in lines
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert families == sorted(set(families))


def test_a_second_scrape_sees_what_came_since_and_whoever_came(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    exposition = Exposition(tmp_path)
    one = process()
    one.took_s.note(0.2)
    one.outlet.carry_out()
    exposition.text(living_slots(tmp_path), ())
    two = process()
    for it in (one, two):
        it.took_s.note(50)
        it.refusals.of("tpm").add()
        it.outlet.carry_out()

    lines = exposition.text(living_slots(tmp_path), ()).decode().splitlines()

    assert 'embedpool_commit_seconds_bucket{le="30.0"} 1.0' in lines
    assert 'embedpool_commit_seconds_bucket{le="+Inf"} 3.0' in lines
    assert "embedpool_commit_seconds_count 3.0" in lines
    assert 'embedpool_refusals_total{reason="tpm"} 2.0' in lines


def test_promtool_has_nothing_to_say_against_a_target(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    promtool = tool("promtool", package="prometheus")
    process().outlet.carry_out()
    text = Exposition(tmp_path).text(living_slots(tmp_path), ())

    said = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (said.returncode, said.stdout + said.stderr) == (0, b"")
