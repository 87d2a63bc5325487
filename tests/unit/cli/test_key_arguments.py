from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

import pytest

from embedpool_cli.arguments import parsed


def read(*arguments: str, environ: Mapping[str, str] | None = None) -> Namespace:
    return parsed(["key", *arguments], environ or {}, version=lambda: "1")


def test_the_pool_is_on_this_machine_unless_it_is_said_otherwise() -> None:
    environ = {"EMBEDPOOL_URL": "https://pool.example/embed/"}

    assert read("list").url == "http://127.0.0.1:4000"
    assert read("list", environ=environ).url == "https://pool.example/embed"
    assert read("list", "--url", "http://[::1]:8000", environ=environ).url == "http://[::1]:8000"


def test_a_new_key_takes_every_limit() -> None:
    options = read(
        "create", "--alias", "ci", "--models", "small, large,", "--team", "t", "--user", "u",
        "--rpm", "10", "--tpm", "1000", "--parallel", "3", "--budget", "$2.50",
        "--budget-duration", "30d", "--expires", "90d", "--tags", "a,b", "--class", "bulk",
        "--metadata", '{"project": "search"}', "--quiet",
    )  # fmt: skip

    assert (options.alias, options.team, options.user) == ("ci", "t", "u")
    assert (options.models, options.tags) == (["small", "large"], ["a", "b"])
    assert (options.rpm, options.tpm, options.parallel) == (10, 1000, 3)
    assert (options.budget, options.budget_duration, options.expires) == (2.5, "30d", "90d")
    assert (options.default_class, options.metadata) == ("bulk", {"project": "search"})
    assert options.quiet


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["list", "--url", "localhost:4000"], "an address like"),
        (["list", "--url", "ftp://h"], "an address like"),
        (["list", "--url", "http://h:99999"], "an address like"),
        (["list", "--url", "http://h/a b"], "an address like"),
        (["list", "--url", "http://sk-key@h"], "no user"),
        (["list", "--url", "http://h/?key=x"], "no ?"),
        (["create", "--rpm", "-1"], "whole number"),
        (["create", "--tpm", "1e6"], "whole number"),
        (["create", "--budget", "much"], "an amount"),
        (["create", "--budget", "nan"], "an amount"),
        (["create", "--budget", "inf"], "an amount"),
        (["create", "--metadata", "[1]"], "a JSON object"),
        (["create", "--metadata", "{"], "a JSON object"),
        (["create", "--class", "slow"], "invalid choice"),
        (["create", "--master-key", "sk-x"], "unrecognized"),
        (["info"], "KEY"),
        (["dance"], "invalid choice"),
        ([], "action"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_ends_with_2_and_a_reason(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        read(*arguments)

    assert end.value.code == 2
    assert reason in capsys.readouterr().err


def test_help_lists_the_command_and_its_actions(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (["--help"], "a running pool's virtual keys"),
        (["key", "--help"], "rotate"),
        (["key", "create", "--help"], "--budget-duration"),
    ):
        with pytest.raises(SystemExit) as end:
            parsed(arguments, {}, version=lambda: "1")

        assert end.value.code == 0
        assert expected in capsys.readouterr().out
