"""`embedpool batches` against a running pool, and the walk-through that the page shows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest

from e2e.keys import MASTER, Office, guarded
from e2e.limited import exactly
from e2e.models import openai_entry
from e2e.pages import programs, ran
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import ROOT, embedpool_command, wait_until
from support.vectors import vector_of

pytestmark = pytest.mark.long

MODEL: Final = "text-embedding-3-small"
DIMS: Final = 48
PATIENCE_S: Final = 30.0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, count_tokens=exactly) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    about = {"output_dimensions": DIMS, "input_cost_per_token": 2e-8, "max_items_per_call": 8}
    with serving(config=guarded(fake, openai_entry(MODEL, fake, **about))) as running:
        yield running


@pytest.fixture
def provider(fake: FakeProvider) -> Iterator[FakeProvider]:
    fake.forget()
    yield fake
    fake.behave()


@pytest.fixture
def key(pool: Pool, plain_client: httpx.Client) -> str:
    """A key of nobody's but the test's, so that it sees no batches of other tests."""
    return Office(pool.url, plain_client).key()


@pytest.fixture
def client(pool: Pool, key: str) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{pool.url}/v1", api_key=key, http_client=http) as client:
        yield client


def batches(pool: Pool, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `embedpool batches …` against the pool to its end."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("api", "worker", "shared", "cli"))
    environ = {"PYTHONPATH": roots, "EMBEDPOOL_URL": pool.url, "EMBEDPOOL_API_KEY": key}
    return subprocess.run(
        [*embedpool_command(), "batches", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
    )


def said(pool: Pool, key: str, *arguments: str) -> str:
    """What a command that succeeds prints."""
    ended = batches(pool, key, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def facts(shown: str) -> dict[str, str]:
    """Read what `show` prints before its empty line."""
    pairs = (line.split("  ", 1) for line in shown.partition("\n\n")[0].splitlines())
    return {title: text.strip() for title, text in pairs}


def line(custom_id: str, given: object, **more: object) -> str:
    body = {"model": MODEL, "input": given, "encoding_format": "base64"}
    asked = {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}
    return json.dumps(asked | more)


def begun(client: openai.OpenAI, lines: Sequence[str]) -> str:
    """Make a batch of these lines; return its id."""
    content = "\n".join(lines).encode()
    uploaded = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/embeddings", completion_window="24h"
    )
    return batch.id


def until(client: openai.OpenAI, batch_id: str, *statuses: str) -> None:
    wait_until(
        lambda: client.batches.retrieve(batch_id).status in statuses,
        patience_s=PATIENCE_S,
        what=f"{batch_id} {statuses}",
    )


def done_of(client: openai.OpenAI, batch_id: str) -> int:
    """How many lines are done by now."""
    counts = client.batches.retrieve(batch_id).request_counts
    assert counts
    return counts.completed


def test_the_page_walks_through_a_batch(
    pool: Pool,
    key: str,
    provider: FakeProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    names = ran("\n".join(programs("batches.md")), tmp_path, url=pool.url, key=key)
    names["client"].close()

    assert names["answers"] == {
        f"chunk-{number}": vector_of(chunk, DIMS, MODEL)
        for number, chunk in enumerate(names["chunks"])
    }
    assert "completed" in capsys.readouterr().out
    assert provider.totals.items == len(names["chunks"])


def test_a_batch_that_has_ended_is_shown_with_the_lines_that_failed(
    pool: Pool, client: openai.OpenAI, key: str
) -> None:
    made = begun(client, [line("good", "a text"), line("bad", ""), line("better", ["b", "c"])])
    until(client, made, "completed")

    shown = said(pool, key, "show", made)
    listed = said(pool, key, "list").splitlines()

    known = facts(shown)
    assert (known["status"], known["done"], known["failed"], known["total"]) == (
        "completed", "2", "1", "3"
    )  # fmt: skip
    assert known["tokens"] == "4"
    assert known["cost"].startswith("$0.000000")
    assert known["model"] == MODEL
    assert shown.partition("\n\n")[2].startswith("bad: ")
    assert [row.split()[:2] for row in listed[1:]] == [[made, "completed"]]


def test_a_batch_that_failed_says_in_which_lines(
    pool: Pool, client: openai.OpenAI, key: str
) -> None:
    made = begun(client, [line("a", "x"), "no JSON", line("a", "y"), line("b", "z", url="/v1/x")])
    until(client, made, "failed")

    shown = said(pool, key, "show", made)

    problems = shown.partition("\n\n")[2].splitlines()
    assert [problem.split(":")[0] for problem in problems] == ["line 2", "line 3", "line 4"]


def test_a_cancelled_batch_ends_soon_and_keeps_what_is_done(
    pool: Pool, client: openai.OpenAI, key: str, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(latency_s=0.5))
    made = begun(client, [line(f"{number}", f"text {number}") for number in range(2_000)])
    until(client, made, "in_progress")
    wait_until(
        lambda: done_of(client, made) > 0,
        patience_s=PATIENCE_S,
        what="lines that are done",
    )

    ended = said(pool, key, "cancel", made)
    until(client, made, "cancelled")
    again = said(pool, key, "cancel", made)

    assert ended.startswith(f"{made} is being cancelled")
    assert again.startswith(f"{made} is cancelled")
    known = facts(said(pool, key, "show", made))
    done, failed = (int(known[name].replace(",", "")) for name in ("done", "failed"))
    assert 0 < done < 2_000
    assert done + failed == 2_000
    assert "batch_cancelled" in said(pool, key, "show", made)


def test_batches_are_listed_page_by_page_newest_first(
    pool: Pool, client: openai.OpenAI, key: str
) -> None:
    made = [begun(client, [line("a", f"of batch {number}")]) for number in range(3)]

    newest = batches(pool, key, "list", "--limit", "2")
    rest = said(pool, key, "list", "--after", made[1])
    everything: list[dict[str, Any]] = json.loads(said(pool, key, "list", "--all", "--json"))[
        "data"
    ]

    assert [row.split()[0] for row in newest.stdout.splitlines()[1:]] == [made[2], made[1]]
    assert f"--after {made[1]}" in newest.stderr
    assert [row.split()[0] for row in rest.splitlines()[1:]] == [made[0]]
    assert [batch["id"] for batch in everything] == made[::-1]


def test_a_batch_is_its_owners_and_the_master_keys(
    pool: Pool, client: openai.OpenAI, plain_client: httpx.Client
) -> None:
    made = begun(client, [line("a", "text")])
    stranger = Office(pool.url, plain_client).key()

    for action in ("show", "cancel"):
        ended = batches(pool, stranger, action, made)
        assert (ended.returncode, ended.stdout) == (1, "")
        (reason,) = ended.stderr.splitlines()
        assert made in reason
    assert said(pool, stranger, "list") == "There are no batches yet.\n"
    assert facts(said(pool, MASTER, "show", made))["owner"].startswith("key:")


def test_a_wrong_key_is_told_where_the_right_one_goes(pool: Pool) -> None:
    ended = batches(pool, "sk-ep-wrong", "list")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "--key-file" in ended.stderr
