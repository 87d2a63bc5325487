from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

import pytest

from embedpool_cli.arguments import parsed


def read(*arguments: str, environ: Mapping[str, str] | None = None) -> Namespace:
    return parsed(["batches", *arguments], environ or {}, version=lambda: "1")


def test_the_pool_is_on_this_machine_unless_it_is_said_otherwise() -> None:
    environ = {"EMBEDPOOL_URL": "https://pool.example/embed/"}

    assert read("list").url == "http://127.0.0.1:4000"
    assert read("show", "b", environ=environ).url == "https://pool.example/embed"
    assert read("cancel", "b", "--url", "http://h:1", environ=environ).url == "http://h:1"


def test_a_list_is_short_unless_it_is_asked_for_more() -> None:
    assert (read("list").limit, read("list").all, read("list").after) == (20, False, None)
    assert read("list", "--limit", "500", "--after", "batch_x").limit == 500


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["list", "--limit", "0"], "1 or more"),
        (["list", "--limit", "some"], "whole number"),
        (["list", "--limit", "5", "--all"], "not allowed with"),
        (["list", "--url", "http://sk-key@h"], "no user"),
        (["show"], "BATCH"),
        (["cancel"], "BATCH"),
        (["cancel", "b", "--key", "sk-x"], "unrecognized"),
        (["resume", "b"], "invalid choice"),
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
        (["--help"], "a running pool's batches"),
        (["batches", "--help"], "cancel"),
        (["batches", "list", "--help"], "--after"),
    ):
        with pytest.raises(SystemExit) as end:
            parsed(arguments, {}, version=lambda: "1")

        assert end.value.code == 0
        assert expected in capsys.readouterr().out
