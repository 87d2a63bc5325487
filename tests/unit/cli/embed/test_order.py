from __future__ import annotations

import pytest

from embedpool_cli.arguments import parsed
from embedpool_cli.embed.order import InputFormat, Order, OutputFormat, order_of, streams_said
from embedpool_cli.terminal import NotAsked


def order(*arguments: str) -> Order:
    return order_of(parsed(["embed", *arguments], {}, version=lambda: "1"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.jsonl", InputFormat.JSONL),
        ("a.ndjson.gz", InputFormat.JSONL),
        ("b/A.CSV", InputFormat.CSV),
        ("a.csv.zst", InputFormat.CSV),
        ("a.parquet", InputFormat.PARQUET),
        ("a.txt", InputFormat.TEXT),
        ("-", InputFormat.JSONL),
    ],
)
def test_a_name_tells_its_format(path: str, expected: InputFormat) -> None:
    assert order(path, "-o", "o.parquet").inputs[0].format is expected


@pytest.mark.parametrize(
    ("arguments", "path", "kind", "shard_rows"),
    [
        (["-o", "o.parquet"], "o.parquet", OutputFormat.PARQUET, None),
        (["-o", "o.jsonl"], "o.jsonl", OutputFormat.JSONL, None),
        (["-o", "o", "--format", "jsonl"], "o", OutputFormat.JSONL, None),
        (["-o", "o/"], "o", OutputFormat.PARQUET, 1_000_000),
        (["-o", "o", "--shard-rows", "5", "--format", "jsonl"], "o", OutputFormat.JSONL, 5),
        (["-o", "-"], "-", OutputFormat.JSONL, None),
    ],
)
def test_an_output_is_what_its_name_and_the_flags_say(
    arguments: list[str], path: str, kind: OutputFormat, shard_rows: int | None
) -> None:
    output = order("a.txt", *arguments).output

    assert output is not None
    assert (output.path, output.format, output.shard_rows) == (path, kind, shard_rows)


def test_rejects_go_beside_the_output_unless_it_is_a_stream() -> None:
    beside, stream = order("a.txt", "-o", "o/").output, order("a.txt", "-o", "-").output

    assert beside is not None
    assert stream is not None
    assert (beside.rejects, stream.rejects) == ("o.rejects.jsonl", None)


def test_streams_cannot_be_resumed() -> None:
    assert order("a.txt", "-o", "o.jsonl").is_resumable
    assert streams_said(order("-", "-o", "o.jsonl")) == ["standard input"]
    assert streams_said(order("a.txt", "-o", "-")) == ["standard output"]
    assert not order("-", "-o", "o.jsonl").is_resumable


def test_a_dry_run_needs_no_output() -> None:
    assert order("a.txt", "--dry-run").output is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a.txt"], "-o OUT"),
        (["a.dat", "-o", "o.jsonl"], "--input-format"),
        (["a.txt", "-o", "o.dat"], "--format"),
        (["-", "-", "-o", "o.jsonl"], "once"),
        (["-", "--input-format", "parquet", "-o", "o.jsonl"], "standard input"),
        (["a.txt", "b.parquet", "-o", "o.jsonl"], "do not mix"),
        (["a.txt", "-o", "-", "--format", "parquet"], "standard output"),
        (["a.txt", "-o", "/"], "no place"),
        (["a.csv", "-o", "o.jsonl", "--carry", "a,a"], "called a"),
        (["a.csv", "-o", "o.jsonl", "--carry", "id"], "called id"),
        (["a.csv", "-o", "o.jsonl", "--carry", "embedding"], "called embedding"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_with_a_reason(arguments: list[str], reason: str) -> None:
    with pytest.raises(NotAsked, match=reason):
        order(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--batch", "0"],
        ["--batch", "2049"],
        ["--concurrency", "x"],
        ["--max-usd", "nan"],
        ["--dimensions", "0"],
        ["--dtype", "int8"],
        ["--local", "--url", "http://h"],
        ["--carry"],
    ],
    ids=" ".join,
)
def test_values_out_of_bounds_end_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        order("a.txt", "-o", "o.jsonl", *arguments)

    assert end.value.code == 2
