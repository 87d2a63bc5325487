from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

import pytest

from embedpool_cli.arguments import parsed


def read(*arguments: str, environ: Mapping[str, str] | None = None) -> Namespace:
    return parsed(arguments, environ or {}, version=lambda: "1.2.3")


def test_serve_listens_on_loopback_4000_with_one_process_of_each_kind() -> None:
    options = read("serve")

    assert (options.host, options.port) == ("127.0.0.1", 4000)
    assert (options.workers, options.api_processes) == (1, 1)
    assert not options.allow_weak_master_key
    assert options.config is None
    assert options.data_dir is None


def test_serve_takes_every_flag() -> None:
    flags = "--config c.yaml --host ::1 --port 0 --workers 3 --api-processes 2 --data-dir d"

    options = read("serve", *flags.split(), "--allow-weak-master-key")

    assert (options.config, options.host, options.port) == ("c.yaml", "::1", 0)
    assert (options.workers, options.api_processes, options.data_dir) == (3, 2, "d")
    assert options.allow_weak_master_key


def test_litellms_name_for_the_number_of_workers_works_too() -> None:
    assert read("serve", "--num_workers", "4").workers == 4


@pytest.mark.parametrize("command", ["serve", "api"])
def test_host_and_port_come_from_the_environment_unless_a_flag_says_otherwise(
    command: str,
) -> None:
    environ = {"EMBEDPOOL_HOST": "0.0.0.0", "EMBEDPOOL_PORT": "8000"}  # noqa: S104

    options = read(command, "--port", "9000", environ=environ)

    assert (options.host, options.port) == ("0.0.0.0", 9000)  # noqa: S104
    assert read(command, environ=environ).port == 8000


def test_an_empty_name_in_the_environment_counts_as_unset() -> None:
    environ = {"EMBEDPOOL_HOST": "", "EMBEDPOOL_PORT": ""}

    options = read("serve", environ=environ)

    assert (options.host, options.port) == ("127.0.0.1", 4000)


def test_the_port_kubernetes_invents_for_a_service_called_embedpool_is_not_ours() -> None:
    assert read("api", environ={"EMBEDPOOL_PORT": "tcp://10.0.0.1:80"}).port == 4000


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "65536"],
        ["serve", "--port", "-1"],
        ["serve", "--port", "http"],
        ["serve", "--workers", "0"],
        ["serve", "--workers", "²"],
        ["serve", "--api-processes", "257"],
        ["serve", "--prot", "4000"],
        ["serve", "--work", "2"],
        ["worker", "--port", "4000"],
        ["dance"],
        [],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_ends_with_2_and_a_reason(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        read(*arguments)

    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_bad_port_in_the_environment_is_refused_like_a_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        read("serve", environ={"EMBEDPOOL_PORT": "many"})

    assert end.value.code == 2
    assert "'many'" in capsys.readouterr().err


def test_a_process_alone_has_25_seconds_to_finish_and_under_serve_what_it_is_told() -> None:
    assert read("worker").grace_s == 25.0
    assert read("worker", "--id", "worker-1", "--grace-s", "2.3").grace_s == 2.3


def test_an_api_under_serve_is_told_its_socket() -> None:
    options = read("api", "--fd", "7", "--id", "api-1", "--grace-s", "1.0")

    assert (options.fd, options.id, options.grace_s) == (7, "api-1", 1.0)


def test_check_takes_its_file_by_place_or_from_the_environment() -> None:
    assert read("check", "c.yaml").path == "c.yaml"
    assert read("check").path is None


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read("--version")

    assert end.value.code == 0
    assert capsys.readouterr().out == "embedpool 1.2.3\n"


def test_help_does_not_show_what_only_serve_says(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("api", "--help")

    shown = capsys.readouterr().out
    assert "--allow-weak-master-key" in shown
    assert "--fd" not in shown
    assert "--grace-s" not in shown
