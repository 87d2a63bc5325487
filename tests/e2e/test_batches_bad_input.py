"""What is wrong with a batch is said with its line, through OpenAI's package, under one pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest

from e2e.batches import (
    DIMS,
    MODEL,
    are_right,
    begun,
    client_of,
    counts,
    ended,
    ids,
    line,
    made,
    numbered,
    part_files,
    priced,
    rows,
    uploaded,
)
from e2e.keys import Office, bearer, guarded
from e2e.limited import exactly
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour

MIB: Final = 1024 * 1024
POISON: Final = "a text the provider refuses"
TOO_LARGE_BYTES: Final = 201_000_000
NOT_HELD_BYTES: Final = 64 * MIB
"""An api process may grow by so much for reasons of its own."""
Problem = tuple[int | None, str, str | None]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, count_tokens=exactly) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    with serving(config=guarded(fake, priced(fake), priced(fake, "other"))) as running:
        yield running


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


@pytest.fixture
def client(pool: Pool, office: Office) -> Iterator[openai.OpenAI]:
    with client_of(pool, office.key(models=["small", "nonesuch"])) as client:
        yield client


def with_line(count: int, number: int, other: str) -> list[str]:
    """Write so many good lines and put another one in the place of one of them."""
    lines = numbered(count)
    lines[number - 1] = other
    return lines


FILES: Final[dict[str, tuple[Callable[[], list[str]], list[Problem]]]] = {
    "no JSON": (
        lambda: with_line(17_010, 17_003, "{not JSON"),
        [(17_003, "invalid_json_line", None)],
    ),
    "no object": (lambda: with_line(3, 2, "[1]"), [(2, "invalid_json_line", None)]),
    "a custom_id twice": (
        lambda: with_line(2_000, 1_999, line("id-7", "x")),
        [(1_999, "duplicate_custom_id", "custom_id")],
    ),
    "no custom_id": (
        lambda: with_line(3, 3, '{"method": "POST", "url": "/v1/embeddings", "body": {}}'),
        [(3, "missing_required_parameter", "custom_id")],
    ),
    "another url": (
        lambda: with_line(9, 8, line("x", "x", url="/v1/chat/completions")),
        [(8, "invalid_url", "url")],
    ),
    "another method": (
        lambda: with_line(9, 7, line("x", "x", method="GET")),
        [(7, "invalid_method", "method")],
    ),
    "a model nobody serves": (
        lambda: [line("x", "x", model="nonesuch")],
        [(1, "model_not_found", "body.model")],
    ),
    "a model not granted": (
        lambda: [line("x", "x", model="other")],
        [(1, "model_not_allowed", "body.model")],
    ),
    "another model in the middle": (
        lambda: with_line(900, 500, line("x", "x", model="other")),
        [(500, "mismatched_model", "body.model")],
    ),
    "a line too many": (
        lambda: numbered(50_001),
        [(50_001, "too_many_tasks", None)],
    ),
    "an input too many": (
        lambda: [line(f"{n}", ["x"] * 2_048) for n in range(25)],
        [(25, "too_many_inputs", "body.input")],
    ),
    "a line of more than 1 MB": (
        lambda: with_line(5, 4, line("x", "x" * MIB)),
        [(4, "line_too_long", None)],
    ),
    "several": (
        lambda: [*with_line(9, 2, "no"), line("id-1", "x"), line("y", "x", url="/")],
        [
            (2, "invalid_json_line", None),
            (10, "duplicate_custom_id", "custom_id"),
            (11, "invalid_url", "url"),
        ],
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_batch_that_cannot_begin_says_in_which_line_and_sends_nothing(
    fake: FakeProvider, client: openai.OpenAI, case: str
) -> None:
    lines, problems = FILES[case]
    calls = fake.totals.calls

    batch = ended(client, begun(client, lines()))

    assert batch.status == "failed"
    assert batch.errors
    assert batch.errors.data
    assert [(one.line, one.code, one.param) for one in batch.errors.data] == problems
    assert all(one.message for one in batch.errors.data)
    assert counts(batch) == (0, 0, 0)
    assert batch.output_file_id is batch.error_file_id is None
    assert fake.totals.calls == calls


ALONE: Final[dict[str, tuple[dict[str, Any], int, str | None]]] = {
    "20,000 tokens": ({"input": "token " * 20_000}, 400, "input[0]"),
    "an empty text": ({"input": ""}, 400, "input"),
    "one empty of three": ({"input": ["a", "", "c"]}, 400, "input[1]"),
    "no text at all": ({"input": None}, 400, "input"),
    "a number": ({"input": 7}, 400, "input"),
    "no list of texts": ({"input": {"text": "x"}}, 400, "input"),
    "vectors of no length": ({"input": "x", "dimensions": 0}, 400, "dimensions"),
    "vectors of another length": ({"input": "x", "dimensions": DIMS + 1}, 400, "dimensions"),
    "an encoding nobody knows": ({"input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
    "a field that is the operator's": ({"input": "x", "api_base": "http://x"}, 400, "api_base"),
    "a text the provider refuses": ({"input": POISON}, 400, "input[0]"),
}


def test_a_line_that_is_wrong_in_itself_fails_alone_as_the_embeddings_route_would_say(
    fake: FakeProvider, client: openai.OpenAI, plain_client: httpx.Client
) -> None:
    fake.behave(Behaviour(status=400, message="not this one", text=POISON))
    good = numbered(400)
    lines = list(good)
    for at, (case, (fields, _, _)) in enumerate(ALONE.items()):
        lines.insert(30 * at + 17, line(case, "", body={"model": MODEL, **fields}))

    batch = ended(client, begun(client, lines))
    answered, failed = rows(client, batch.output_file_id), rows(client, batch.error_file_id)

    assert batch.status == "completed"
    assert counts(batch) == (len(lines), len(good), len(ALONE))
    assert ids(answered) == [f"id-{number}" for number in range(1, 401)]
    assert are_right(answered)
    assert ids(failed) == list(ALONE)
    for row, (fields, status, param) in zip(failed, ALONE.values(), strict=True):
        said = plain_client.post(
            f"{client.base_url}embeddings",
            json={"model": MODEL, **fields},
            headers=bearer(client.api_key),
        )
        assert row["error"] is None
        assert (row["response"]["status_code"], row["response"]["body"]) == (status, said.json())
        assert (said.status_code, said.json()["error"]["param"]) == (status, param)


def test_a_file_of_201_mb_is_refused_early_and_never_held(
    pool: Pool, client: openai.OpenAI, tmp_path: Path
) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(TOO_LARGE_BYTES)
    before = peaks_bytes(pool)

    with pytest.raises(openai.APIStatusError) as refusal:
        client.files.create(file=path, purpose="batch")

    assert refusal.value.status_code == 413
    assert "200000000" in refusal.value.message
    assert all(peak < before[pid] + NOT_HELD_BYTES for pid, peak in peaks_bytes(pool).items())
    assert list((pool.data_directory / "files" / "new").glob("*")) == []


def peaks_bytes(pool: Pool) -> dict[int, int]:
    """The most memory that each api process ever had."""
    found: dict[int, int] = {}
    for member in pool.apis():
        status = Path(f"/proc/{member.pid}/status").read_text()
        (peak,) = (row for row in status.splitlines() if row.startswith("VmHWM:"))
        found[member.pid] = int(peak.split()[1]) * 1024
    return found


def test_what_is_no_input_file_is_refused_by_its_field(
    pool: Pool, client: openai.OpenAI, office: Office
) -> None:
    with client_of(pool, office.key()) as other:
        foreign = uploaded(other, numbered(1))
    done = ended(client, begun(client, numbered(1)))
    assert done.output_file_id

    refusals = [
        refused(lambda: client.files.create(file=("in.jsonl", b""), purpose="batch")),
        refused(lambda: client.files.create(file=("in.jsonl", b"{}"), purpose="fine-tune")),
        refused(lambda: made(client, foreign)),
        refused(lambda: made(client, "file-nobodys")),
        refused(lambda: made(client, done.output_file_id or "")),
    ]

    assert refusals == [
        (400, "file"),
        (400, "purpose"),
        (404, "input_file_id"),
        (404, "input_file_id"),
        (400, "input_file_id"),
    ]


def refused(ask: Callable[[], object]) -> tuple[int, str | None]:
    """Ask for what is refused; return the status and what it is about."""
    with pytest.raises(openai.APIStatusError) as refusal:
        ask()
    return refusal.value.status_code, refusal.value.param


def test_a_file_of_blank_lines_is_an_empty_one(client: openai.OpenAI) -> None:
    batch = ended(client, begun(client, ["", "  "]))

    assert batch.status == "failed"
    assert batch.errors
    assert [one.code for one in batch.errors.data or []] == ["empty_file"]


def test_a_result_exists_for_its_owner_alone(
    pool: Pool, client: openai.OpenAI, office: Office
) -> None:
    batch = ended(client, begun(client, [*numbered(2), line("bad", "")]))
    results = [batch.output_file_id, batch.error_file_id, batch.input_file_id]

    with client_of(pool, office.key()) as stranger:
        asked: Sequence[Callable[[], object]] = [
            *(lambda one=one: stranger.files.content(one or "") for one in results),
            *(lambda one=one: stranger.files.retrieve(one or "") for one in results),
            *(lambda one=one: stranger.files.delete(one or "") for one in results),
            lambda: stranger.batches.retrieve(batch.id),
            lambda: stranger.batches.cancel(batch.id),
        ]
        refusals = [refused(ask) for ask in asked]
        seen = [*stranger.files.list(), *stranger.batches.list()]

    assert {status for status, _ in refusals} == {404}
    assert seen == []
    assert len(rows(client, batch.output_file_id)) == 2
    assert part_files(pool.data_directory / "files") == []
