from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedpool_cli.embed.blocks import MAX_BLOCK_ROWS
from embedpool_cli.embed.columns import Kind
from embedpool_cli.embed.lines import PIECE_BYTES, Broken
from unit.cli.embed.readers import blocks, rows


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_inputs_are_read_in_order_and_rows_counted_through(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", '{"text":"one"}\n\n{"text":"two"}')
    second = write(tmp_path / "b.csv", "text\nthree\n")
    third = write(tmp_path / "c.txt", "four\r\nfive\n")

    assert [(at, text) for at, _, text in rows(first, second, third)] == [
        (0, "one"), (1, "two"), (2, "three"), (3, "four"), (4, "five"),
    ]  # fmt: skip


def many(path: Path, kind: str, count: int) -> Path:
    texts = [f"text {at}" for at in range(count)]
    match kind:
        case "jsonl":
            return write(path, "".join(json.dumps({"text": text}) + "\n" for text in texts))
        case "csv":
            return write(path, "text\n" + "".join(f"{text}\n" for text in texts))
        case "text":
            return write(path, "".join(f"{text}\n" for text in texts))
        case _:
            return parquet(path, {"text": texts}, row_group_size=700)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "text", "parquet"])
@pytest.mark.parametrize("skip", [0, 1, 699, 700, 1_500, 2_999, 3_000, 5_999, 6_000])
def test_whatever_is_skipped_the_rest_is_what_it_was(tmp_path: Path, kind: str, skip: int) -> None:
    paths = [many(tmp_path / name, kind, 3_000) for name in ("a", "b")]
    flags = ("--input-format", kind)

    assert rows(*paths, *flags, skip=skip) == rows(*paths, *flags)[skip:]


def test_blocks_are_bounded_in_rows_and_letters(tmp_path: Path) -> None:
    path = many(tmp_path / "a.txt", "text", 3_000)
    large = write(tmp_path / "b.txt", ("x" * 400_000 + "\n") * 6)

    assert max(map(len, blocks(path))) == MAX_BLOCK_ROWS
    assert max(map(len, blocks(large))) == 3


def test_a_block_tells_every_kind_of_value_a_column_has(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        '{"text":"a","id":1,"x":1.5,"y":null}\n{"text":"b","id":2,"x":"w"}\n'
        '{"text":"c","id":3,"x":2.5,"y":true}\n',
    )

    (block,) = blocks(path, "--id", "id", "--carry", "x,y")

    assert block.kinds == (Kind.SMALL, Kind.DECIMAL | Kind.TEXT, Kind.FLAG)


def test_large_texts_of_parquet_come_in_small_blocks(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": ["x" * 50_000] * 200})

    read = blocks(path)

    assert max(map(len, read)) <= 21
    assert [row for block in read for row in block.places] == list(range(1, 201))


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=30))
def test_any_text_survives_json(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    write(path, "".join(json.dumps({"text": text}) + "\n" for text in texts))

    assert [text for _, _, text in rows(path)] == [text or "the text is empty" for text in texts]


def test_lines_across_pieces_stay_whole(tmp_path: Path) -> None:
    lengths = [PIECE_BYTES - 3, 1, 2, PIECE_BYTES * 2 + 1, 5]
    path = write(tmp_path / "a.txt", "".join("x" * length + "\n" for length in lengths))

    assert [len(text) for _, _, text in rows(path)] == lengths


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "no JSON object"),
        (b'{"text": ""}', "the text is empty"),
        (b'{"text": null}', "the text is null"),
        (b'{"other": "x"}', "the row has no text"),
        (b'{"text": 5}', "the text is a number"),
        (b'{"text": {}}', "the text is an object"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"text": "x", "c": "\\ud800"}', "not JSON"),
        (b'{"text": "x", "c": "\\udc00"}', "not"),
        (b'{"text": "x", "c": "\xff"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_a_fault_of_its_own_row(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text":"a"}\n' + line + b'\n{"text":"b"}\n')

    (_, _, before), (_, _, bad), (_, _, after) = rows(path, "--carry", "c")

    assert (before, after) == ("a", "b")
    assert reason in bad


def test_carried_values_keep_their_spelling(tmp_path: Path) -> None:
    lines = b'{"k": 1.50, "text": "a"}\n{"k": 18446744073709551616, "text": "b"}\n{"text": "c"}\n'
    path = write(tmp_path / "a.jsonl", lines)

    (block,) = blocks(path, "--carry", "k")

    assert block.carried.column(1).to_pylist() == ["1.50", "18446744073709551616", None]


def test_ids_of_csv_are_text_and_quoted_lines_one_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv", b'\xef\xbb\xbfid,text\r\n007,"two\nlines"\r\n\r\n8,\xff\r\n9\r\n'
    )

    assert rows(path, "--id", "id") == [
        (0, '"007"', "two\nlines"),
        (1, None, "the row holds text that is not UTF-8"),
        (2, None, "the row has 1 fields, the header 2"),
    ]
    assert blocks(path, "--id", "id")[0].places == [3, 5, 6]


def test_a_row_without_its_id_fails(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text":"a"}\n{"text":"b","k":null}\n{"text":"c","k":1}\n')
    typed = parquet(tmp_path / "a.parquet", {"text": ["a", "b"], "k": [None, 1]})

    assert [text for _, _, text in rows(path, "--id", "k")] == ["the row has no k"] * 2 + ["c"]
    assert [text for _, _, text in rows(typed, "--id", "k")] == ["the row has no k", "b"]


def test_nulls_and_empty_texts_of_parquet_fail(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": ["a", None, "", "b"]})

    assert [text for _, _, text in rows(path)] == [
        "a", "the text is null", "the text is empty", "b",
    ]  # fmt: skip


def test_text_of_parquet_that_is_no_utf8_fails_alone(tmp_path: Path) -> None:
    raw = pa.array([b"a", b"\xff", b"b"], pa.binary()).view(pa.string())
    path = parquet(tmp_path / "a.parquet", {"text": raw})

    assert [text for _, _, text in rows(path)] == ["a", "the text is not UTF-8", "b"]


@pytest.mark.parametrize(
    ("columns", "flags", "reason"),
    [
        ({"other": ["a"]}, (), "has no column text; it has other"),
        ({"text": [["a"]]}, (), "it should hold strings"),
        ({"text": [1]}, (), "it should hold strings"),
        ({"text": ["a"]}, ("--carry", "k"), "has no column k"),
    ],
)
def test_parquet_that_cannot_be_meant_is_refused_before_anything(
    tmp_path: Path, columns: dict[str, Any], flags: tuple[str, ...], reason: str
) -> None:
    path = parquet(tmp_path / "a.parquet", columns)

    with pytest.raises(Broken, match=reason):
        blocks(path, *flags)


def test_parquet_files_of_different_types_do_not_mix(tmp_path: Path) -> None:
    one = parquet(tmp_path / "a.parquet", {"text": ["a"], "k": [1]})
    other = parquet(tmp_path / "b.parquet", {"text": ["a"], "k": ["x"]})

    with pytest.raises(Broken, match="other types"):
        blocks(one, other, "--carry", "k")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_damaged_compression_is_said_after_the_good_rows(tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps({"text": f"{at} {hash(str(at))}"}) + "\n" for at in range(90_000))
    whole = lines.encode()
    packed = (
        gzip.compress(whole) if name.endswith("gz") else pa.compress(whole, "zstd").to_pybytes()
    )
    path = write(tmp_path / name, packed[:-100])

    with pytest.raises(Broken, match="cannot be read on"):
        blocks(path)


def test_what_is_no_csv_ends_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b\n1,2\n")

    with pytest.raises(Broken, match="no column text; its header has a, b"):
        blocks(path)


def test_the_share_read_grows_to_one(tmp_path: Path) -> None:
    paths = [many(tmp_path / f"{name}.txt", "text", 3_000) for name in ("a", "b")]

    shares = [block.source_share for block in blocks(*paths)]

    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any(0.0 < share < 1.0 for share in shares)


def test_plain_text_carries_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", 'say "hi"\n')

    (block,) = blocks(path, "--carry", "text")

    assert block.carried.column(1).to_pylist() == ['"say \\"hi\\""']
