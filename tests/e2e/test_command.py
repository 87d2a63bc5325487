"""The `embedpool` command on days when it has nothing to serve: it says so in one line."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from e2e.models import CANARY, entry
from e2e.pools import NONE, short_directory, written
from support.processes import ROOT, embedpool_command

REFUSED = 2
EVERYBODYS = "0.0.0.0"  # noqa: S104 (none of these ever listens)


def run(*arguments: str, env: Mapping[str, str] = NONE) -> subprocess.CompletedProcess[str]:
    """Run `embedpool …` to its end."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("api", "worker", "shared", "cli"))
    return subprocess.run(
        [*embedpool_command(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": roots, **env},
    )


def why(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why it did not start."""
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


def test_the_example_configuration_is_good() -> None:
    ended = run("check", str(ROOT / "config.example.yaml"))

    assert ended.returncode == 0
    assert "wordllama" in ended.stdout


def test_check_prints_no_secret(tmp_path: Path) -> None:
    path = written(
        {
            "model_list": [
                entry("m", "openai/text-embedding-3-small", "http://127.0.0.1:1/v1", CANARY)
            ],
            "general_settings": {"master_key": f"master-{CANARY}"},
            "redis": {"url": f"redis://user:{CANARY}@127.0.0.1:6379/0"},
        },
        tmp_path,
    )

    ended = run("check", str(path))

    assert ended.returncode == 0
    assert "text-embedding-3-small" in ended.stdout
    assert CANARY not in ended.stdout + ended.stderr


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_misspelt_setting_is_refused_with_a_suggestion(tmp_path: Path, command: str) -> None:
    path = written({"pool": {"linger_mss": 3}}, tmp_path)
    arguments = [str(path)] if command == "check" else ["--config", str(path), "--port", "0"]

    ended = run(command, *arguments, env={"EMBEDPOOL_DATA_DIR": str(tmp_path)})

    assert ended.returncode != 0
    said = ended.stdout + ended.stderr
    assert "linger_mss" in said
    assert "linger_ms" in said.replace("linger_mss", "")


@pytest.mark.parametrize("command", ["serve", "api"])
def test_a_taken_port_is_said_in_one_line(command: str) -> None:
    with socket.socket() as taken, short_directory() as directory:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        ended = run(command, "--port", port, env={"EMBEDPOOL_DATA_DIR": str(directory)})

    assert ended.returncode == REFUSED
    assert f"port {port} on 127.0.0.1 is taken" in why(ended)
    assert "--port" in why(ended)


@pytest.mark.parametrize("host", [EVERYBODYS, "::"])
def test_everybodys_address_without_a_master_key_is_refused(tmp_path: Path, host: str) -> None:
    env = {"EMBEDPOOL_DATA_DIR": str(tmp_path)}

    ended = run("serve", "--host", host, "--port", "0", env=env)

    assert ended.returncode == REFUSED
    assert "EMBEDPOOL_MASTER_KEY" in why(ended)


@pytest.mark.parametrize("key", ["sk-1234", "changeme", "short"])
def test_everybodys_address_with_a_weak_master_key_is_refused(tmp_path: Path, key: str) -> None:
    env = {"EMBEDPOOL_DATA_DIR": str(tmp_path), "EMBEDPOOL_MASTER_KEY": key}

    ended = run("serve", "--host", EVERYBODYS, "--port", "0", env=env)

    assert ended.returncode == REFUSED
    assert "--allow-weak-master-key" in why(ended)


def test_a_weak_master_key_is_warned_of(tmp_path: Path) -> None:
    env = {"EMBEDPOOL_DATA_DIR": str(tmp_path), "EMBEDPOOL_MASTER_KEY": "sk-1234"}

    ended = run("check", str(written({}, tmp_path)), env=env)

    warnings = ended.stdout.partition("Warnings")[2]
    assert "master_key" in warnings
    assert "sk-1234" not in ended.stdout


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_part_alone_wants_to_know_its_redis(command: str) -> None:
    arguments = ["--port", "0"] if command == "api" else []

    ended = run(command, *arguments)

    assert ended.returncode == REFUSED
    assert "REDIS_URL" in why(ended)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    ended = run("serve", "--config", str(tmp_path / "no.yaml"), "--port", "0")

    assert ended.returncode == REFUSED
    assert "no.yaml" in why(ended)


def test_it_tells_its_version() -> None:
    ended = run("--version")

    assert ended.returncode == 0
    assert ended.stdout.startswith("embedpool")
