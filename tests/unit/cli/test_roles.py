from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from embedpool_cli.data_directory import ClaimedDirectory
from embedpool_cli.embedded_valkey import embedded_valkey
from embedpool_cli.plan import Plan
from embedpool_cli.roles import roles
from embedpool_cli.supervisor import Role
from embedpool_shared.config.file import load_config
from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, Names
from support.valkey import RedisServer
from unit.cli.plans import planned

ENTRY = {"id": "pack", "p": "", "c": 1, "n": "", "t": 0, "d": 0}


def role(plan: Plan, name: str) -> Role:
    return next(role for role in roles(plan) if role.name == name)


def flag(command: tuple[str, ...], name: str) -> str:
    return command[command.index(name) + 1]


def test_workers_come_up_before_the_api_that_counts_on_them() -> None:
    with planned(workers=3, api_processes=2) as plan:
        assert [(r.name, r.count) for r in roles(plan)] == [("worker", 3), ("api", 2)]


def test_the_store_comes_up_first_where_none_was_named(tmp_path: Path) -> None:
    with (
        planned(config={"general_settings": {}}, data=tmp_path) as plan,
        ClaimedDirectory(tmp_path) as data,
        embedded_valkey(data) as valkey,
    ):
        complete = plan.with_store(valkey)

        assert [r.name for r in roles(complete)] == ["valkey", "worker", "api"]
        assert role(complete, "worker").launch().environ["REDIS_URL"] == valkey.url
        assert role(complete, "api").launch().environ["REDIS_URL"] == valkey.url


def test_api_and_workers_keep_files_in_the_same_folder_of_the_data_directory() -> None:
    with planned(data=Path("/a b/data")) as plan:
        environs = [role(plan, name).launch().environ for name in ("worker", "api")]

    urls = {load_config(None, environ).config.files.url for environ in environs}
    assert urls == {SecretStr("file:///a b/data/files")}


def test_a_file_store_that_was_named_is_left_for_the_children_to_find() -> None:
    config = {"redis": {"url": "redis://h"}, "files": {"url": "s3://bucket"}}
    with planned(config=config) as plan:
        assert "EMBEDPOOL_FILES_URL" not in role(plan, "worker").launch().environ


def test_a_redis_that_was_named_is_left_for_the_children_to_find() -> None:
    with planned() as plan:
        environ = role(plan, "worker").launch().environ

    assert "REDIS_URL" not in environ
    assert environ["OPENAI_API_KEY"] == "sk-canary"
    assert environ["EMBEDPOOL_DATA_DIR"] == "/data"


def test_a_secret_that_was_kept_goes_to_every_child_and_onto_no_command_line() -> None:
    with planned() as plan:
        kept = plan.with_secret("canary-of-a-secret")
        launches = [role(kept, name).launch() for name in ("worker", "api")]

    for launch in launches:
        assert launch.environ["EMBEDPOOL_SECRET"] == "canary-of-a-secret"
        assert "canary" not in repr(launch) + " ".join(launch.command)
    assert "canary" not in repr(kept)
    assert kept.config.auth.secret is not None


def test_a_secret_that_was_configured_is_left_for_the_children_to_find() -> None:
    with planned() as plan:
        assert "EMBEDPOOL_SECRET" not in role(plan, "worker").launch().environ


def test_a_worker_is_told_its_id_its_grace_and_its_configuration() -> None:
    with planned(config_path="c.yaml") as plan:
        launch = role(plan, "worker").launch()

    assert launch.command[:2] == ("embedpool", "worker")
    assert flag(launch.command, "--config") == "c.yaml"
    assert flag(launch.command, "--id") == launch.process_id
    assert float(flag(launch.command, "--grace-s")) < role(plan, "worker").stop_patience_s


def test_an_api_inherits_the_socket_and_is_told_where_it_leads() -> None:
    with planned(host="127.0.0.1", port=4000, allow_weak_master_key=True) as plan:
        launch = role(plan, "api").launch()
        fd = plan.listener.fileno()

    assert launch.command[:2] == ("embedpool", "api")
    assert launch.fds == (fd,)
    assert flag(launch.command, "--fd") == str(fd)
    assert flag(launch.command, "--host") == "127.0.0.1"
    assert "--allow-weak-master-key" in launch.command
    assert "--config" not in launch.command


def test_no_two_processes_ever_share_a_name_and_none_has_a_colon() -> None:
    with planned() as plan:
        launches = [role(plan, name).launch() for name in ("worker", "api") for _ in range(20)]

    names = [launch.process_id for launch in launches]
    assert len(set(names)) == 40
    assert not any(":" in name for name in names)


def test_a_clean_stop_takes_less_than_five_seconds_even_when_nothing_ends_by_itself(
    tmp_path: Path,
) -> None:
    with planned() as plan, ClaimedDirectory(tmp_path) as data, embedded_valkey(data) as valkey:
        everything = roles(plan.with_store(valkey))

    assert sum(one.stop_patience_s for one in everything) < 5.0


def test_a_plan_shows_no_secret() -> None:
    with planned(config={"redis": {"url": "redis://:canary@h"}}) as plan:
        assert "canary" not in repr(plan) + repr(role(plan, "worker").launch())


async def test_what_a_dead_worker_held_goes_back_to_its_lane_and_it_is_forgotten(
    valkey: RedisServer,
) -> None:
    lane = Names().lane("m")
    stream = lane.stream(LaneClass.INTERACTIVE)
    with valkey.client() as client, planned(config={"redis": {"url": valkey.url}}) as plan:
        client.xadd(Names().lanes, {"m": "m"})
        client.xgroup_create(stream, GROUP, mkstream=True)
        client.xadd(stream, ENTRY)
        client.xreadgroup(GROUP, "worker-1", {stream: ">"})

        await role(plan, "worker").on_death("worker-1")

        assert client.xpending(stream, GROUP)["pending"] == 0
        [(_, again)] = client.xrange(stream)
        assert again[b"id"] == b"pack"
        assert again[b"d"] == b"1"
        assert client.xinfo_consumers(stream, GROUP) == []


async def test_with_redis_away_the_dead_workers_work_is_left_to_the_sweep(tmp_path: Path) -> None:
    said: list[str] = []
    with planned(config={"redis": {"url": f"unix://{tmp_path}/none.sock"}}) as plan:
        await role(replace(plan, say=said.append), "worker").on_death("worker-1")

    assert len(said) == 1
    assert "Redis did not answer" in said[0]
