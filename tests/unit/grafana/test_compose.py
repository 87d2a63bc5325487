"""`docker compose --profile monitoring up` brings Prometheus and Grafana with all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from unit.grafana.promql import GRAFANA, ROOT

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
MONITORING: Final = ("prometheus", "grafana")


def mounts(service: str) -> dict[str, str]:
    """Path in the container → path on the host, of what is mounted read-only."""
    parts = [text.split(":") for text in COMPOSE["services"][service]["volumes"]]
    return {part[1]: part[0] for part in parts if part[2:] == ["ro"]}


def test_the_profile_adds_these_two_and_nobody_gets_them_unasked() -> None:
    profiles = {name: it.get("profiles", []) for name, it in COMPOSE["services"].items()}

    assert {name for name, own in profiles.items() if own} == set(MONITORING)
    assert all(profiles[name] == ["monitoring"] for name in MONITORING)


@pytest.mark.parametrize("service", MONITORING)
def test_a_version_is_pinned_and_health_is_asked_for(service: str) -> None:
    tree = COMPOSE["services"][service]

    assert tree["image"].rpartition(":")[2].removeprefix("v").count(".") == 2
    assert tree["healthcheck"]["test"][0] == "CMD"
    assert all("127.0.0.1" in port for port in tree["ports"])


@pytest.mark.parametrize("service", MONITORING)
def test_whatever_is_mounted_from_here_exists_and_cannot_be_written(service: str) -> None:
    from_here = [it for it in COMPOSE["services"][service]["volumes"] if it.startswith("./")]

    assert len(mounts(service)) == len(from_here)
    assert all((ROOT / source).is_dir() for source in mounts(service).values())


def test_prometheus_finds_its_rules() -> None:
    folder = ROOT / mounts("prometheus")["/etc/prometheus"]
    tree = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))

    assert {path for pattern in tree["rule_files"] for path in folder.glob(pattern)} == set(
        (GRAFANA / "prometheus" / "rules").iterdir()
    )


def test_grafana_finds_its_dashboards_and_starts_with_the_overview() -> None:
    provider = yaml.safe_load(
        (GRAFANA / "provisioning/dashboards/embedpool.yml").read_text("utf-8")
    )
    path = provider["providers"][0]["options"]["path"]
    home = Path(
        COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )

    assert ROOT / mounts("grafana")[path] == GRAFANA / "dashboards"
    assert ROOT / mounts("grafana")["/etc/grafana/provisioning"] == GRAFANA / "provisioning"
    assert (GRAFANA / "dashboards" / home.name).is_file()
    assert home.is_relative_to(path)


def test_api_and_workers_see_the_same_files() -> None:
    for role in ("api", "worker"):
        service = COMPOSE["services"][role]

        assert service["environment"]["EMBEDPOOL_FILES_URL"].endswith(
            ":-file:///srv/embedpool/files}"
        )
        assert "files:/srv/embedpool" in service["volumes"]
    assert "files" in COMPOSE["volumes"]


def test_metrics_leave_a_container_only_with_a_token() -> None:
    for role in ("api", "worker"):
        environment = COMPOSE["services"][role]["environment"]

        assert environment["EMBEDPOOL_METRICS_HOST"] == "${EMBEDPOOL_METRICS_TOKEN:+0.0.0.0}"
        assert environment["EMBEDPOOL_METRICS_TOKEN"] == "${EMBEDPOOL_METRICS_TOKEN:-}"
    assert COMPOSE["secrets"]["metrics_token"] == {"environment": "EMBEDPOOL_METRICS_TOKEN"}
