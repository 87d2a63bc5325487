"""Whole pools as processes: `embedpool serve`, or an api and workers of their own on a Redis."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.store import store_at
from support.ports import free_port
from support.processes import Member, Program, embedpool

Config = Mapping[str, Any]
NONE: Final[Mapping[str, str]] = {}
SECRET: Final = "e2e-0d1c8f5b7a3946e2"
"""What processes that are started one by one share."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One running `embedpool serve`."""

    program: Program
    url: str
    directory: Path

    @property
    def data_directory(self) -> Path:
        """What it was told to keep its data in."""
        return self.directory / "data"

    @property
    def store_url(self) -> str:
        """Where its embedded Valkey is."""
        return f"unix://{self.data_directory / 'valkey.sock'}"

    def workers(self) -> list[Member]:
        """Its worker processes."""
        return self.program.members("embedpool worker")

    def apis(self) -> list[Member]:
        """Its api processes."""
        return self.program.members("embedpool api")


def written(config: Config, directory: Path) -> Path:
    """Write a configuration; JSON is YAML."""
    path = directory / "config.yaml"
    path.write_text(json.dumps(config, indent=1))
    return path


@contextmanager
def short_directory() -> Iterator[Path]:
    """Make a directory whose path leaves room for a unix socket's name, and remove it."""
    with tempfile.TemporaryDirectory(prefix="ep-e2e-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextmanager
def serving(
    *flags: str, config: Config | None = None, env: Mapping[str, str] = NONE
) -> Iterator[Pool]:
    """Run `embedpool serve` on a free port with data of its own, and wait until it serves."""
    with short_directory() as directory:
        named = ["--config", str(written(config, directory))] if config else []
        arguments = ["serve", "--port", "0", "--data-dir", str(directory / "data"), *named, *flags]
        with embedpool(*arguments, log=directory / "log", env=env) as program:
            said = program.wait_for_line("embedpool serves ")
            yield Pool(program, found_url(said), directory)


def found_url(line: str) -> str:
    """Read the URL out of a line."""
    found = re.search(r"http://[\w.:\[\]-]+:\d+", line)
    assert found, line
    return found[0]


class Fleet:
    """An api and workers started one by one, without a supervisor, on one Redis."""

    def __init__(self, store_url: str, directory: Path, *, config: Config | None = None) -> None:
        self.store_url = store_url
        self.url = ""
        self._directory = directory
        self._flags: Sequence[str] = ()
        self._started = 0
        self._running = ExitStack()
        if config:
            self._flags = ("--config", str(written(config, directory)))

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def api(self, *flags: str, env: Mapping[str, str] = NONE) -> Program:
        """Start an api and wait until it answers; `url` is where."""
        port = free_port()
        api = self._start("api", "--port", str(port), *flags, env=env)
        self.url = f"http://127.0.0.1:{port}"
        api.wait_for_ok(f"{self.url}/readyz")
        return api

    def worker(self, name: str, *, env: Mapping[str, str] = NONE) -> Program:
        """Start a worker under this name and wait until it says in Redis that it lives."""
        worker = self._start("worker", "--id", name, env=env)
        with store_at(self.store_url) as store:
            worker.wait_until(lambda: name in store.alive(), patience_s=15, what=f"a living {name}")
        return worker

    def wait_until_served(self, api: Program) -> None:
        """Return when the api sees Redis and a worker."""
        api.wait_for_ok(f"{self.url}/readyz?deep=1")

    def _start(self, role: str, *flags: str, env: Mapping[str, str] = NONE) -> Program:
        self._started += 1
        log = self._directory / f"{role}-{self._started}.log"
        own = {
            "REDIS_URL": self.store_url,
            "EMBEDPOOL_DATA_DIR": str(self._directory),
            "EMBEDPOOL_SECRET": SECRET,
            **env,
        }
        return self._running.enter_context(embedpool(role, *self._flags, *flags, log=log, env=own))
