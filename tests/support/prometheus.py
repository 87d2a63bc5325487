"""A real Prometheus with the repository's scrape configuration and rules, on pools of a test.

Of the configuration only the addresses are replaced, and the intervals if a test is in a hurry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from embedpool_shared.measures import Role
from support.ports import free_port
from support.processes import ROOT, Program, wait_until
from support.tools import tool

FOLDER: Final = ROOT / "grafana" / "prometheus"
_GLANCE_S: Final = 0.1
POOL: Final = "__pool"
"""Prometheus drops a label like this once it has relabelled."""
Ports = Mapping[Role, Sequence[int]]
"""Where the targets of one pool are, by role."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer, with its value then."""

    labels: Mapping[str, str]
    value: float


def configured(pools: Mapping[str, Ports], directory: Path, *, every_s: int | None) -> Path:
    """Write the configuration for pools by namespace; the token is to be in `directory`."""
    tree: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    tree["rule_files"] = [str(FOLDER / pattern) for pattern in tree["rule_files"]]
    if every_s is not None:
        tree["global"] = dict.fromkeys(tree["global"], f"{every_s}s")
    for job in tree["scrape_configs"]:
        role = Role(job["job_name"].removeprefix("embedpool-"))
        del job["dns_sd_configs"]
        job["authorization"]["credentials_file"] = str(directory / "token")
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{port}" for port in ports[role]], "labels": {POOL: name}}
            for name, ports in pools.items()
        ]
        (namespace,) = [it for it in job["relabel_configs"] if it["target_label"] == "namespace"]
        namespace |= {"source_labels": [POOL], "replacement": "$1"}
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(tree))
    return path


@contextmanager
def prometheus(
    pools: Mapping[str, Ports], directory: Path, *, token: str, every_s: int | None = None
) -> Iterator[Prometheus]:
    """Run one until the context ends; it keeps its data in `directory`."""
    (directory / "token").write_text(token)
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(tool("prometheus", package="prometheus")),
        f"--config.file={configured(pools, directory, every_s=every_s)}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (
        Program(command, log=directory / "log", env={}) as program,
        httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=10) as client,
    ):
        program.wait_for_ok(f"http://{address}/-/ready")
        yield Prometheus(client, targets=sum(map(_count, pools.values())))


def _count(ports: Ports) -> int:
    return sum(map(len, ports.values()))


class Prometheus:
    """A running one, by its HTTP API."""

    def __init__(self, client: httpx.Client, *, targets: int) -> None:
        self._client = client
        self._targets = targets

    def ask(self, path: str, **parameters: Any) -> Any:
        """Ask for something; an expression it cannot read is an AssertionError with its reason."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer["error"]
        return answer["data"]

    def now(self, expr: str) -> list[Series]:
        """Evaluate an expression; series without a number (0 / 0) are left out."""
        data = self.ask("query", query=expr)
        if data["resultType"] != "vector":
            return [Series({}, float(data["result"][1]))]
        found = (Series(one["metric"], float(one["value"][1])) for one in data["result"])
        return [one for one in found if not math.isnan(one.value)]

    def rules(self) -> list[Any]:
        """Every rule as it was last evaluated."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[Any]:
        """Every target as it was last scraped."""
        return list(self.ask("targets", state="active")["activeTargets"])

    def wait_until_all_is_scraped(self) -> None:
        """Return when every target has answered and every rule was evaluated without an error."""
        wait_until(self._is_all_up, patience_s=90, what="all scraped", glance_s=_GLANCE_S)

    def _is_all_up(self) -> bool:
        up = [target for target in self.targets() if target["health"] == "up"]
        return len(up) == self._targets and all(rule["health"] == "ok" for rule in self.rules())
