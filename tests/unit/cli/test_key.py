from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedpool_cli.arguments import parsed
from embedpool_cli.key import run_key
from embedpool_cli.terminal import Terminal
from support.http_server import Response
from support.ports import free_port
from unit.cli.fake_pool import MASTER, FakePool, a_key, fake_pool, refusal


@pytest.fixture
def pool() -> Iterator[FakePool]:
    with fake_pool(a_key("ci"), a_key("nightly")) as running:
        yield running


class Ended:
    """One run of `embedpool key`: its exit code and what it printed."""

    def __init__(
        self, *arguments: str, typed: str = "", at_terminal: bool = False, **environ: str
    ) -> None:
        out, errors = io.StringIO(), io.StringIO()
        environ = {"EMBEDPOOL_MASTER_KEY": MASTER} | environ
        options = parsed(["key", *arguments], environ, version=lambda: "1")
        terminal = Terminal(out, errors, io.StringIO(typed), is_interactive=at_terminal)
        self.code = run_key(options, environ, terminal)
        self.out, self.errors = out.getvalue(), errors.getvalue()


def run(pool: FakePool, *arguments: str, typed: str = "", at_terminal: bool = False) -> Ended:
    return Ended(*arguments, "--url", pool.url, typed=typed, at_terminal=at_terminal)


# create


def test_a_new_key_is_printed_once_with_what_it_may_do(pool: FakePool) -> None:
    ended = run(pool, "create", "--alias", "search", "--rpm", "60")

    assert ended.code == 0
    assert ended.out.count("sk-ep-secret") == 1
    assert "rpm 60" in ended.out
    assert "shown this once" in ended.out


def test_only_what_was_said_is_asked_for_under_litellms_names(pool: FakePool) -> None:
    run(pool, "create", "--alias", "a", "--models", "m", "--budget", "1", "--expires", "30d")

    assert pool.last == (
        "POST",
        "/key/generate",
        {"key_alias": "a", "models": ["m"], "max_budget": 1.0, "duration": "30d"},
    )


def test_every_flag_reaches_the_pool(pool: FakePool) -> None:
    run(
        pool, "create", "--alias", "a", "--models", "m", "--team", "t", "--user", "u", "--rpm",
        "1", "--tpm", "2", "--parallel", "3", "--budget", "4", "--budget-duration", "1mo",
        "--expires", "5d", "--tags", "x", "--metadata", "{}", "--class", "bulk",
    )  # fmt: skip

    assert pool.last[2] == {
        "key_alias": "a", "models": ["m"], "team_id": "t", "user_id": "u", "rpm_limit": 1,
        "tpm_limit": 2, "max_parallel_requests": 3, "max_budget": 4.0, "budget_duration": "1mo",
        "duration": "5d", "tags": ["x"], "metadata": {}, "default_class": "bulk",
    }  # fmt: skip


def test_quietly_a_script_gets_the_key_and_nothing_else(pool: FakePool) -> None:
    assert run(pool, "create", "--quiet").out == "sk-ep-secret\n"
    assert run(pool, "rotate", "ci", "--quiet").out == "sk-ep-fresh\n"


def test_as_json_it_is_what_the_pool_answered(pool: FakePool) -> None:
    assert json.loads(run(pool, "create", "--json").out)["key"] == "sk-ep-secret"


def test_an_answer_without_a_key_is_no_success(pool: FakePool) -> None:
    pool.override = Response(b"{}")

    ended = run(pool, "create")

    assert ended.code == 2
    assert "holds no key" in ended.errors


# list, info


def test_keys_are_listed_a_line_each(pool: FakePool) -> None:
    head, *rows = run(pool, "list").out.splitlines()

    assert head.split() == [
        "alias", "id", "key", "models", "limits", "spent", "expires", "blocked"
    ]  # fmt: skip
    assert [line.split()[0] for line in rows] == ["ci", "nightly"]


def test_every_page_is_asked_for(pool: FakePool) -> None:
    pool.keys = [a_key(f"k{number}") for number in range(5)]
    pool.page_keys = 2

    answer = json.loads(run(pool, "list", "--json").out)

    assert [key["key_alias"] for key in answer["keys"]] == ["k0", "k1", "k2", "k3", "k4"]
    assert answer["total_count"] == 5


def test_one_teams_keys_can_be_asked_for(pool: FakePool) -> None:
    run(pool, "list", "--team", "t-1")

    assert pool.last[2]["team_id"] == "t-1"
    assert "user_id" not in pool.last[2]


def test_no_keys_are_said_in_words(pool: FakePool) -> None:
    pool.keys = []

    assert run(pool, "list").out == "There are no virtual keys yet.\n"


def test_a_key_is_found_by_its_alias_by_its_id_and_by_itself(pool: FakePool) -> None:
    for name, asked in (("ci", "id-of-ci"), ("id-of-ci", "id-of-ci"), ("sk-ep-x", "sk-ep-x")):
        ended = run(pool, "info", name)

        assert ended.code == 0
        assert pool.last == ("GET", "/key/info", {"key": asked})


def test_a_key_can_come_in_by_standard_input(pool: FakePool) -> None:
    run(pool, "info", "-", typed="sk-ep-x\n")

    assert pool.last[2] == {"key": "sk-ep-x"}
    assert run(pool, "info", "-").code == 2


# rotate, revoke


def test_rotation_shows_the_fresh_key(pool: FakePool) -> None:
    ended = run(pool, "rotate", "nightly")

    assert pool.last == ("POST", "/key/regenerate", {"key": "id-of-nightly"})
    assert ended.out.count("sk-ep-fresh") == 1


def test_a_script_revokes_without_being_asked(pool: FakePool) -> None:
    ended = run(pool, "revoke", "ci")

    assert ended.code == 0
    assert ended.out == "Revoked the key ci.\n"
    assert pool.last == ("POST", "/key/delete", {"keys": ["id-of-ci"]})


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 2), ("", 2)])
def test_a_person_is_asked_before_a_key_is_revoked(pool: FakePool, typed: str, code: int) -> None:
    ended = run(pool, "revoke", "ci", typed=typed, at_terminal=True)

    assert ended.code == code
    assert "Revoke the key ci for good? [y/N]" in ended.errors
    assert (pool.last[1] == "/key/delete") is (code == 0)


def test_a_person_who_says_yes_beforehand_is_not_asked(pool: FakePool) -> None:
    assert "[y/N]" not in run(pool, "revoke", "ci", "--yes", at_terminal=True).errors
    assert pool.last[1] == "/key/delete"


def test_a_key_named_by_itself_is_never_repeated(pool: FakePool) -> None:
    ended = run(pool, "revoke", "sk-ep-canary")

    assert "canary" not in ended.out + ended.errors


# the master key, and bad days


def test_the_master_key_comes_from_a_file_or_the_environment(
    pool: FakePool, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{MASTER}\n")
    url = ("--url", pool.url)

    by_file = Ended("list", *url, "--master-key-file", str(file), EMBEDPOOL_MASTER_KEY="wrong")
    by_litellm = Ended("list", *url, EMBEDPOOL_MASTER_KEY="", LITELLM_MASTER_KEY=MASTER)

    assert (by_file.code, by_litellm.code) == (0, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff", "is no text"),
        (b"two words", "no master key"),
        (b"a\r\nx-evil: 1", "no master key"),
        ("schlüssel".encode(), "no master key"),
        (None, "cannot be read"),
    ],
)
def test_a_master_key_that_cannot_be_one_is_not_sent(
    pool: FakePool, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)

    ended = run(pool, "list", "--master-key-file", str(file))

    assert ended.code == 2
    assert reason in ended.errors
    assert pool.asked == []


def test_without_a_master_key_it_says_where_one_goes(pool: FakePool) -> None:
    ended = Ended("list", "--url", pool.url, EMBEDPOOL_MASTER_KEY="")

    assert ended.code == 2
    assert "EMBEDPOOL_MASTER_KEY" in ended.errors
    assert "--master-key-file" in ended.errors


def test_a_wrong_master_key_is_refused_with_a_hint(pool: FakePool) -> None:
    ended = Ended("list", "--url", pool.url, EMBEDPOOL_MASTER_KEY="sk-canary")

    assert ended.code == 1
    assert ended.errors.startswith("embedpool: Invalid API key; is EMBEDPOOL_MASTER_KEY")
    assert "canary" not in ended.errors


def test_a_refusal_is_one_line_on_stderr(pool: FakePool) -> None:
    pool.override = refusal(400, "duration: \x1b[31msoon\nis no duration")

    ended = run(pool, "create", "--expires", "soon")

    assert (ended.code, ended.out) == (1, "")
    assert ended.errors == "embedpool: duration: \\x1b[31msoon\\nis no duration\n"


def test_where_nobody_listens_it_asks_whether_the_pool_runs() -> None:
    ended = Ended("list", "--url", f"http://127.0.0.1:{free_port()}")

    assert ended.code == 2
    assert "is embedpool serve running at http://127.0.0.1:" in ended.errors
