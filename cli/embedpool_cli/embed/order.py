"""What one `embedpool embed` is to do, once its command line has been understood. Pure."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from embedpool_cli.embed.rows import ID, VECTOR
from embedpool_cli.terminal import NotAsked

STREAM: Final = "-"
DEFAULT_SHARD_ROWS: Final = 1_000_000
COMPRESSED: Final = (".gz", ".zst", ".zstd")


class InputFormat(StrEnum):
    """How inputs are written."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TEXT = "text"


class OutputFormat(StrEnum):
    """How vectors are written."""

    PARQUET = "parquet"
    JSONL = "jsonl"


BY_SUFFIX: Final = {
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".csv": InputFormat.CSV,
    ".parquet": InputFormat.PARQUET,
    ".pq": InputFormat.PARQUET,
    ".txt": InputFormat.TEXT,
    ".text": InputFormat.TEXT,
    ".md": InputFormat.TEXT,
}


@dataclass(frozen=True, slots=True)
class Input:
    """One input."""

    path: str
    format: InputFormat

    @property
    def is_stream(self) -> bool:
        """Whether it is standard input."""
        return self.path == STREAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Which fields of a row matter."""

    text: str
    id: str | None  # None: the row's number
    carry: tuple[str, ...]

    @property
    def carried(self) -> tuple[str | None, ...]:
        """The id's field, then what else is carried."""
        return (self.id, *self.carry)

    @property
    def column_names(self) -> tuple[str, ...]:
        """What the carried columns are called in the output."""
        return (ID, *self.carry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where vectors go, and how."""

    path: str
    format: OutputFormat
    dtype: str
    shard_rows: int | None  # None: one file
    rejects: str | None  # None: standard error

    @property
    def is_stream(self) -> bool:
        """Whether it is standard output."""
        return self.path == STREAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Inputs, fields and output."""

    inputs: tuple[Input, ...]
    fields: Fields
    output: Output | None  # None: a dry run

    @property
    def is_resumable(self) -> bool:
        """Whether another start can go on where this one ends."""
        is_stream = self.output is not None and self.output.is_stream
        return not is_stream and not any(one.is_stream for one in self.inputs)


def order_of(options: Namespace) -> Order:
    """Understand the command line; raises `NotAsked` where it cannot be meant."""
    fields = Fields(text=options.field, id=options.id, carry=tuple(options.carry))
    _check_fields(fields)
    inputs = tuple(_input(path, options.input_format) for path in options.inputs)
    if sum(one.is_stream for one in inputs) > 1:
        raise NotAsked("- is standard input: it can be read once")
    is_typed = {one.format is InputFormat.PARQUET for one in inputs}
    if len(is_typed) > 1:
        raise NotAsked(
            "Parquet inputs and others do not mix: their columns have types of their own"
        )
    output = None if options.dry_run else _output(options)
    return Order(inputs=inputs, fields=fields, output=output)


def _check_fields(fields: Fields) -> None:
    columns = (*fields.column_names, VECTOR)
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise NotAsked(
            f"two columns of the output would be called {twice}: "
            f"{ID} is the row's id, {VECTOR} its vector; name each field once"
        )


def _input(path: str, forced: str | None) -> Input:
    if forced is not None:
        chosen = InputFormat(forced)
    elif path == STREAM:
        chosen = InputFormat.JSONL
    else:
        chosen = _format_by_name(path)
    if path == STREAM and chosen is InputFormat.PARQUET:
        raise NotAsked("Parquet cannot be read from standard input: its directory is at the end")
    return Input(path, chosen)


def _format_by_name(path: str) -> InputFormat:
    name = PurePath(path)
    if name.suffix.lower() in COMPRESSED:
        name = name.with_suffix("")
    found = BY_SUFFIX.get(name.suffix.lower())
    if found is None:
        raise NotAsked(f"the name {path} does not tell its format: say it with --input-format")
    return found


def _output(options: Namespace) -> Output:
    path: str | None = options.output
    if path is None:
        raise NotAsked("say where vectors go: -o OUT (or --dry-run)")
    is_folder = options.shard_rows is not None or path.endswith("/")
    if path == STREAM:
        return _stream_output(options)
    path = path.rstrip("/")
    if not path:
        raise NotAsked("that is no place for vectors: -o OUT")
    return Output(
        path=path,
        format=_output_format(options.format, path, is_folder=is_folder),
        dtype=options.dtype,
        shard_rows=(options.shard_rows or DEFAULT_SHARD_ROWS) if is_folder else None,
        rejects=options.rejects or f"{path}.rejects.jsonl",
    )


def _stream_output(options: Namespace) -> Output:
    if options.format == OutputFormat.PARQUET or options.shard_rows is not None:
        raise NotAsked("standard output takes JSONL: Parquet's columns are known at the end only")
    return Output(
        path=STREAM,
        format=OutputFormat.JSONL,
        dtype=options.dtype,
        shard_rows=None,
        rejects=options.rejects,
    )


def _output_format(forced: str | None, path: str, *, is_folder: bool) -> OutputFormat:
    if forced is not None:
        return OutputFormat(forced)
    suffix = PurePath(path).suffix.lower()
    if suffix in {".jsonl", ".ndjson"}:
        return OutputFormat.JSONL
    if suffix in {".parquet", ".pq"} or is_folder:
        return OutputFormat.PARQUET
    raise NotAsked(f"the name {path} does not tell a format: say it with --format")


def streams_said(order: Order) -> Sequence[str]:
    """Name what keeps `order` from being resumed."""
    said = ["standard input"] if any(one.is_stream for one in order.inputs) else []
    if order.output is not None and order.output.is_stream:
        said.append("standard output")
    return said
