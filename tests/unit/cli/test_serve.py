from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedpool_cli.data_directory import ClaimedDirectory
from embedpool_cli.embedded_valkey import embedded_valkey
from embedpool_cli.plan import Plan
from embedpool_cli.secret_file import FILE_NAME, kept_secret
from embedpool_cli.serve import run, serve, with_secret
from embedpool_shared.errors import ConfigInvalid
from support.processes import group_members
from unit.cli.plans import fake_embedpool, planned


def unheard(text: str) -> None:
    raise AssertionError(text)


@asynccontextmanager
async def everything_planned(data: Path) -> AsyncIterator[Plan]:
    with (
        planned(config={"general_settings": {"master_key": "sk-canary-of-many-letters"}}) as plan,
        ClaimedDirectory(data) as claimed,
        embedded_valkey(claimed) as valkey,
    ):
        yield replace(plan.with_store(valkey), command=fake_embedpool, environ=dict(os.environ))


def children() -> int:
    """Count our own Valkeys; whoever tests beside us is in our group, too."""
    valkeys = [m.pid for m in group_members(os.getpgid(0)) if "valkey-server" in m.command]
    return sum(parent_of(pid) == os.getpid() for pid in valkeys)


def parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None  # it has ended meanwhile
    return int(stat.rpartition(")")[2].split()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_announces_once_where_it_serves_and_a_signal_ends_it_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    before = children()
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with everything_planned(tmp_path) as plan:
        url = plan.url
        serving = asyncio.create_task(run(plan, announce=announced.put_nowait))

        text = await announced.get()
        assert children() == before + 1
        os.kill(os.getpid(), number)

        assert await serving == 0
    assert url in text.splitlines()[0]
    assert "fake-model" in text.splitlines()[0]
    assert "canary" not in text
    assert announced.empty()
    assert children() == before


async def test_while_it_stops_whoever_connects_is_refused(tmp_path: Path) -> None:
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with everything_planned(tmp_path) as plan:
        port = plan.listener.getsockname()[1]
        serving = asyncio.create_task(run(plan, announce=announced.put_nowait))
        await announced.get()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(
    ("options", "environ", "reason"),
    [
        ({"config_path": "/no/such.yaml"}, {}, "no/such.yaml"),
        ({"host": "0.0.0.0"}, {}, "without a master key"),  # noqa: S104
        ({"host": "0.0.0.0"}, {"EMBEDPOOL_MASTER_KEY": "sk-1234"}, "--allow-weak-master-key"),  # noqa: S104
    ],
    ids=["no such file", "open to everybody", "a placeholder for a key"],
)
def test_what_must_not_be_served_is_refused_before_anything_starts(
    tmp_path: Path, options: dict[str, Any], environ: dict[str, str], reason: str
) -> None:
    data = tmp_path / "data"
    with planned(data=data, **options) as plan, pytest.raises(ConfigInvalid, match=reason):
        serve(plan.options, environ, say=unheard, announce=unheard)

    assert not data.exists()


@pytest.mark.parametrize("redis", [{}, {"REDIS_URL": "redis://127.0.0.1:1"}])
def test_a_secret_that_others_may_read_is_refused_before_anything_starts(
    tmp_path: Path, redis: dict[str, str]
) -> None:
    kept_secret(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o644)

    with planned(data=tmp_path) as plan, pytest.raises(ConfigInvalid, match="others may read"):
        serve(plan.options, redis, say=unheard, announce=unheard)


def test_where_no_secret_is_configured_the_one_of_the_data_directory_is_used(
    tmp_path: Path,
) -> None:
    with planned(data=tmp_path) as plan:
        first, again = with_secret(plan), with_secret(plan)

    assert first.child_environ["EMBEDPOOL_SECRET"] == kept_secret(tmp_path)
    assert again.child_environ == first.child_environ


def test_where_a_secret_is_configured_none_is_made(tmp_path: Path) -> None:
    config = {"auth": {"secret": "a-secret-of-many-letters"}}

    with planned(config=config, data=tmp_path / "data") as plan:
        assert with_secret(plan) is plan

    assert not (tmp_path / "data").exists()


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with planned(data=data) as plan:
        taken = replace(plan.options, port=plan.listener.getsockname()[1])

        with pytest.raises(ConfigInvalid, match="is taken"):
            serve(taken, {}, say=unheard, announce=unheard)

    assert not data.exists()


def test_a_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        planned(data=tmp_path) as plan,
        ClaimedDirectory(tmp_path),
        pytest.raises(ConfigInvalid, match="in use"),
    ):
        serve(plan.options, {}, say=unheard, announce=unheard)
