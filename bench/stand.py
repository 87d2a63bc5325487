"""The test stand: a fake provider and embedpool as processes, and the CPU each role has used."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

from bench import SUPPORT
from support.ports import free_port
from support.processes import Program, embedpool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL: Final = "bench-embed"
DIMS: Final = 1_536
_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")
_ROLES: Final = {
    "embedpool api": "api",
    "embedpool worker": "worker",
    "valkey-server": "valkey",
    "redis-server": "valkey",
}


@dataclass(frozen=True, slots=True)
class Stand:
    """Two servers that answer the same requests with the same vectors."""

    fake: Program
    fake_url: str
    pool: Program
    pool_url: str

    def fake_stats(self) -> dict[str, Any]:
        """Read what the fake provider has counted since its last reset."""
        with urlopen(f"{self.fake_url}/_stats", timeout=5) as response:  # noqa: S310
            return dict(json.load(response))

    def reset_fake(self) -> None:
        """Make the fake provider count from zero."""
        urlopen(Request(f"{self.fake_url}/_reset", data=b"", method="POST"), timeout=5).close()  # noqa: S310

    def cpu_s(self) -> dict[str, float]:
        """Sum the CPU seconds used so far by role: api, worker, valkey, serve, fake."""
        used: dict[str, float] = {}
        for member in self.pool.members():
            role = next((to for part, to in _ROLES.items() if part in member.command), "serve")
            used[role] = used.get(role, 0.0) + member.cpu_s
        used["fake"] = sum(member.cpu_s for member in self.fake.members())
        return used


@contextmanager
def standing(
    directory: Path, *, latency_ms: float = 0.0, master_key: str | None = None
) -> Iterator[Stand]:
    """Start both servers and yield them ready; end them afterwards."""
    with fake_provider(directory, latency_ms) as (fake, fake_url):
        config = directory / "config.yaml"
        config.write_text(_config(fake_url, master_key))
        port = str(free_port())
        flags = ["--config", str(config), "--port", port, "--data-dir", str(directory / "data")]
        with embedpool("serve", *flags, log=directory / "embedpool.log") as pool:
            found = _URL.search(pool.wait_for_line("http://127.0.0.1:"))
            assert found is not None
            pool.wait_for_ok(f"{found[0]}/readyz?deep=1")
            yield Stand(fake, fake_url, pool, found[0])
            pool.stop()


@contextmanager
def fake_provider(directory: Path, latency_ms: float = 0.0) -> Iterator[tuple[Program, str]]:
    """Start the fake provider alone; yield it and its URL."""
    command = [sys.executable, "-m", "support.fake_provider", "--latency-ms", str(latency_ms)]
    # What this process put on sys.path its children do not inherit.
    env = {"PYTHONPATH": SUPPORT}
    with Program(command, log=directory / "fake.log", env=env) as fake:
        yield fake, fake.wait_for_line("http://")


def _config(fake_url: str, master_key: str | None) -> str:
    # JSON is YAML.
    return json.dumps(
        {
            "model_list": [
                {
                    "model_name": MODEL,
                    "litellm_params": {
                        "model": f"openai/{MODEL}",
                        "api_base": f"{fake_url}/v1",
                        "api_key": "sk-bench",
                    },
                    "model_info": {"output_dimensions": DIMS, "input_cost_per_token": 2e-8},
                }
            ],
            "general_settings": {"master_key": master_key} if master_key else {},
        }
    )
