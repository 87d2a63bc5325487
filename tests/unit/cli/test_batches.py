from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedpool_cli.arguments import parsed
from embedpool_cli.batches import run_batches
from embedpool_cli.main import main
from embedpool_cli.terminal import Terminal
from support.http_server import Response
from support.ports import free_port
from unit.cli.fake_batches import (
    KEY,
    FakeBatches,
    a_batch,
    a_failed_line,
    an_unsent_line,
    fake_batches,
)
from unit.cli.fake_pool import refusal


@pytest.fixture
def pool() -> Iterator[FakeBatches]:
    with fake_batches(a_batch("new"), a_batch("old", status="completed")) as running:
        yield running


class Ended:
    """One run of `embedpool batches`: its exit code and what it printed."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        out, errors = io.StringIO(), io.StringIO()
        environ = {"EMBEDPOOL_API_KEY": KEY} | environ
        options = parsed(["batches", *arguments], environ, version=lambda: "1")
        terminal = Terminal(out, errors, io.StringIO(), is_interactive=False)
        self.code = run_batches(options, environ, terminal)
        self.out, self.errors = out.getvalue(), errors.getvalue()

    @property
    def ids(self) -> list[str]:
        """The batches of a table, in their order."""
        return [line.split()[0] for line in self.out.splitlines()[1:]]


def run(pool: FakeBatches, *arguments: str) -> Ended:
    return Ended(*arguments, "--url", pool.url)


# list


def test_batches_are_listed_a_line_each_newest_first(pool: FakeBatches) -> None:
    ended = run(pool, "list")

    assert ended.code == 0
    assert ended.out.splitlines()[0].split() == [
        "id", "status", "done", "failed", "total", "tokens", "cost", "age"
    ]  # fmt: skip
    assert ended.ids == ["batch_new", "batch_old"]
    assert ended.errors == ""


def test_as_many_as_were_asked_for_are_shown_and_it_is_said_that_there_are_more(
    pool: FakeBatches,
) -> None:
    pool.batches = [a_batch(f"{number}") for number in range(5)]

    ended = run(pool, "list", "--limit", "2")

    assert ended.ids == ["batch_0", "batch_1"]
    assert ended.errors == "embedpool: there are more: --all, or --after batch_1\n"


def test_where_there_are_no_more_nothing_is_said(pool: FakeBatches) -> None:
    assert run(pool, "list", "--limit", "2").errors == ""


def test_the_next_page_begins_after_the_last_batch_of_the_one_before(pool: FakeBatches) -> None:
    pool.batches = [a_batch(f"{number}") for number in range(5)]

    assert run(pool, "list", "--limit", "2", "--after", "batch_1").ids == ["batch_2", "batch_3"]
    assert run(pool, "list", "--after", "batch_3").ids == ["batch_4"]


def test_more_than_a_page_has_are_fetched_page_by_page(pool: FakeBatches) -> None:
    pool.batches = [a_batch(f"{number}") for number in range(7)]
    pool.max_page = 2

    assert len(run(pool, "list", "--limit", "5").ids) == 5
    assert run(pool, "list", "--all").ids == [f"batch_{number}" for number in range(7)]


def test_no_page_is_asked_for_that_nobody_looks_at(pool: FakeBatches) -> None:
    pool.batches = [a_batch(f"{number}") for number in range(300)]

    run(pool, "list", "--limit", "3")

    assert pool.asked == [("GET", "/v1/batches", {"limit": "4"})]


def test_a_pool_that_repeats_itself_is_not_asked_for_ever(pool: FakeBatches) -> None:
    page = json.dumps({"data": [a_batch("same")], "has_more": True})
    pool.override = Response(page.encode())

    run(pool, "list", "--all")

    assert len(pool.asked) == 2


def test_no_batches_are_said_in_words(pool: FakeBatches) -> None:
    assert run(pool, "list", "--after", "batch_old").out == "There are no older batches.\n"
    pool.batches = []
    assert run(pool, "list").out == "There are no batches yet.\n"


def test_as_json_a_list_is_openais(pool: FakeBatches) -> None:
    listed = json.loads(run(pool, "list", "--json", "--limit", "1").out)

    assert listed == {"object": "list", "data": [a_batch("new")], "has_more": True}
    assert json.loads(run(pool, "list", "--json", "--all").out)["has_more"] is False


# show


def test_all_that_is_known_of_a_batch_is_a_fact_a_line(pool: FakeBatches) -> None:
    ended = run(pool, "show", "batch_new")

    facts = dict(line.split("  ", 1) for line in ended.out.splitlines())
    assert ended.code == 0
    assert facts["status"].strip() == "in_progress"
    assert facts["expires"].strip() == "2026-03-02 11:30:00 UTC"


def test_why_a_batch_failed_is_shown_with_its_line_numbers(pool: FakeBatches) -> None:
    problems = [
        {"code": "invalid_json", "message": f"bad {n}", "line": n, "param": None} for n in range(8)
    ]
    pool.batches[0] |= {"status": "failed", "errors": {"object": "list", "data": problems}}

    out = run(pool, "show", "batch_new").out

    assert "line 4: bad 4 (invalid_json)\n… and 3 more: --json shows all\n" in out
    assert "bad 5" not in out


def test_the_first_lines_that_failed_are_shown_from_the_error_file(pool: FakeBatches) -> None:
    pool.files["file-err"] = [
        a_failed_line("row-7"),
        an_unsent_line("row-9", "batch_expired"),
        *(a_failed_line(f"row-{n}") for n in range(10, 40)),
    ]
    pool.batches[0] |= {
        "error_file_id": "file-err",
        "request_counts": {"total": 40, "completed": 8, "failed": 32},
    }

    out = run(pool, "show", "batch_new").out

    assert "row-7: too long (400 x)\nrow-9: was not sent (batch_expired)\n" in out
    assert out.endswith("… and 27 more in file-err\n")


def test_an_error_file_of_long_lines_is_not_read_whole(pool: FakeBatches) -> None:
    pool.files["file-err"] = [a_failed_line("short"), a_failed_line("long", "x" * 200_000)]
    pool.batches[0] |= {"error_file_id": "file-err"}

    out = run(pool, "show", "batch_new").out

    assert "short: too long (400 x)\n… and 2 more in file-err\n" in out
    assert "xxx" not in out


def test_an_error_file_that_is_gone_does_not_hide_the_batch(pool: FakeBatches) -> None:
    pool.batches[0] |= {"error_file_id": "file-gone"}

    ended = run(pool, "show", "batch_new")

    assert ended.code == 0
    assert "file-gone: No such path" in ended.out


def test_as_json_a_batch_is_what_the_pool_answered(pool: FakeBatches) -> None:
    assert json.loads(run(pool, "show", "batch_new", "--json").out) == a_batch("new")


# cancel


def test_a_cancel_says_what_happens_now(pool: FakeBatches) -> None:
    ended = run(pool, "cancel", "batch_new")

    assert ended.code == 0
    assert pool.asked == [("POST", "/v1/batches/batch_new/cancel", {})]
    assert ended.out.startswith("batch_new is being cancelled: what is under way is finished")


@pytest.mark.parametrize(
    ("status", "said"), [("cancelled", "is cancelled: what was done"), ("failed", "is failed.")]
)
def test_a_batch_that_had_ended_is_said_to_have(pool: FakeBatches, status: str, said: str) -> None:
    pool.override = Response(json.dumps(a_batch("new", status=status)).encode())

    assert f"batch_new {said}" in run(pool, "cancel", "batch_new").out


def test_as_json_a_cancel_is_what_the_pool_answered(pool: FakeBatches) -> None:
    assert json.loads(run(pool, "cancel", "batch_new", "--json").out)["status"] == "cancelling"


# keys, and bad days


def test_an_id_is_one_part_of_the_path_whatever_is_in_it(pool: FakeBatches) -> None:
    run(pool, "show", "batch_new/cancel?x=1")

    assert pool.asked == [("GET", "/v1/batches/batch_new%2Fcancel%3Fx%3D1", {})]


def test_without_an_id_nothing_is_asked(pool: FakeBatches) -> None:
    ended = run(pool, "show", "")

    assert (ended.code, pool.asked) == (2, [])
    assert "no batch was named" in ended.errors


def test_a_batch_of_somebody_elses_is_refused_in_the_pools_words(pool: FakeBatches) -> None:
    ended = run(pool, "show", "batch_other")

    assert (ended.code, ended.out) == (1, "")
    assert ended.errors == "embedpool: No such batch: batch_other\n"


def test_the_key_comes_from_a_file_or_the_environment(pool: FakeBatches, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    url = ("--url", pool.url)

    by_file = Ended("list", *url, "--key-file", str(file), EMBEDPOOL_API_KEY="wrong")
    by_master = Ended("list", *url, EMBEDPOOL_API_KEY="", EMBEDPOOL_MASTER_KEY=KEY)

    assert (by_file.code, by_master.code) == (0, 0)


def test_an_open_pool_is_asked_without_a_key(pool: FakeBatches) -> None:
    pool.key = "Bearer"  # and nothing after it

    assert Ended("list", "--url", pool.url, EMBEDPOOL_API_KEY="").code == 0


def test_a_wrong_key_is_refused_with_a_hint_and_never_repeated(pool: FakeBatches) -> None:
    ended = Ended("list", "--url", pool.url, EMBEDPOOL_API_KEY="sk-canary")

    assert ended.code == 1
    assert ended.errors.startswith("embedpool: Invalid API key; set EMBEDPOOL_API_KEY")
    assert "canary" not in ended.errors


def test_a_refusal_is_one_line_on_stderr(pool: FakeBatches) -> None:
    pool.override = refusal(400, "\x1b[31mtoo\nlate")

    ended = run(pool, "cancel", "batch_new")

    assert (ended.code, ended.out) == (1, "")
    assert ended.errors == "embedpool: \\x1b[31mtoo\\nlate\n"


def test_where_nobody_listens_it_asks_whether_the_pool_runs() -> None:
    ended = Ended("list", "--url", f"http://127.0.0.1:{free_port()}")

    assert ended.code == 2
    assert "is embedpool serve running at http://127.0.0.1:" in ended.errors


def test_it_is_a_command_of_embedpool(
    pool: FakeBatches, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDPOOL_API_KEY", KEY)

    assert main(["batches", "list", "--url", pool.url]) == 0
    assert "batch_new" in capsys.readouterr().out
