"""`embedpool key` against a running pool: what it prints works, and stops working."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from e2e.asking import asked
from e2e.models import config_of
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.processes import ROOT, embedpool_command, wait_until

pytestmark = pytest.mark.long

MASTER: Final = "sk-a-long-and-random-master-key"
TAKES_EFFECT_WITHIN_S: Final = 3.0


@pytest.fixture(scope="module")
def pool(lasting_provider: FakeProvider) -> Iterator[Pool]:
    config = config_of(lasting_provider) | {"general_settings": {"master_key": MASTER}}
    with serving(config=config) as running:
        yield running


def key(pool: Pool, *arguments: str, master: str = MASTER) -> subprocess.CompletedProcess[str]:
    """Run `embedpool key …` against the pool to its end."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("api", "worker", "shared", "cli"))
    environ = {"PYTHONPATH": roots, "EMBEDPOOL_URL": pool.url, "EMBEDPOOL_MASTER_KEY": master}
    return subprocess.run(
        [*embedpool_command(), "key", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
    )


def said(pool: Pool, *arguments: str) -> str:
    """What a command that succeeds prints."""
    ended = key(pool, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def status_for(pool: Pool, secret: str, model: str = "wordllama") -> int:
    """Ask for an embedding with this key."""
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(trust_env=False, timeout=30) as client:
        body = asked(model, "text")
        return client.post(f"{pool.url}/v1/embeddings", json=body, headers=headers).status_code


def until_refused(pool: Pool, secret: str) -> None:
    wait_until(
        lambda: status_for(pool, secret) == 401,
        patience_s=TAKES_EFFECT_WITHIN_S,
        what="a key that is refused",
    )


def listed(pool: Pool) -> dict[str, dict[str, Any]]:
    return {one["key_alias"]: one for one in json.loads(said(pool, "list", "--json"))["keys"]}


def test_a_key_works_from_its_making_to_its_end(pool: Pool) -> None:
    secret = said(pool, "create", "--alias", "ci", "--models", "wordllama", "--quiet").strip()

    assert status_for(pool, secret) == 200
    assert status_for(pool, secret, "small") == 403

    fresh = said(pool, "rotate", "ci", "--quiet").strip()
    until_refused(pool, secret)
    assert status_for(pool, fresh) == 200

    assert said(pool, "revoke", "ci") == "Revoked the key ci.\n"
    until_refused(pool, fresh)
    assert "ci" not in listed(pool)


def test_every_limit_arrives_and_is_shown(pool: Pool) -> None:
    said(
        pool, "create", "--alias", "search", "--rpm", "60", "--tpm", "1000", "--parallel", "4",
        "--budget", "2.5", "--budget-duration", "30d", "--expires", "90d", "--tags", "a,b",
        "--class", "bulk", "--metadata", '{"project": "x"}', "--user", "ada",
    )  # fmt: skip

    shown = said(pool, "info", "search")

    for fact in (
        "rpm 60, tpm 1000, parallel 4", "$0.00 of $2.50 in 30d", "bulk", "a, b", "ada", "UTC",
    ):  # fmt: skip
        assert fact in shown
    assert "sk-ep-" in shown
    assert listed(pool)["search"]["metadata"] == {"project": "x"}


def test_a_key_can_be_named_by_its_id_and_by_itself(pool: Pool) -> None:
    made = json.loads(said(pool, "create", "--alias", "named", "--json"))

    for name in (made["token_id"], made["token"], made["key"]):
        assert "named" in said(pool, "info", name)
    assert made["key"] not in said(pool, "list")


def test_no_secret_of_a_key_is_in_the_pools_log(pool: Pool) -> None:
    secret = said(pool, "create", "--quiet").strip()
    said(pool, "info", secret)

    assert secret.removeprefix("sk-ep-") not in pool.program.output
    assert MASTER not in pool.program.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["create", "--expires", "soon"], "soon"),
        (["create", "--budget", "1", "--budget-duration", "5 years"], "budget_duration"),
        (["info", "nobody"], "key"),
        (["revoke", "nobody"], "key"),
        (["rotate", "nobody"], "key"),
    ],
)
def test_what_the_pool_refuses_is_one_line_and_exit_code_1(
    pool: Pool, arguments: list[str], reason: str
) -> None:
    ended = key(pool, *arguments)

    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("embedpool: ")
    assert reason in line


def test_a_virtual_key_manages_no_keys(pool: Pool) -> None:
    secret = said(pool, "create", "--quiet").strip()

    ended = key(pool, "list", master=secret)

    assert ended.returncode == 1
    assert "master key" in ended.stderr


def test_the_master_key_is_read_from_a_file(pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "master"
    file.write_text(MASTER + "\n")

    ended = key(pool, "list", "--master-key-file", str(file), master="sk-wrong")

    assert ended.returncode == 0
