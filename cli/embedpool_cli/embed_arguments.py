"""What can be said after `embedpool embed`. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Final

from embedpool_cli.argument_types import amount, count, names
from embedpool_cli.pool_arguments import add_url

DEFAULT_BATCH: Final = 256
MAX_BATCH: Final = 2_048
DEFAULT_CONCURRENCY: Final = 16
MAX_CONCURRENCY: Final = 1_024
DEFAULT_PATIENCE_S: Final = 600
MAX_PATIENCE_S: Final = 7 * 24 * 3_600

EPILOG: Final = """\
Inputs are JSONL (also .gz, .zst), CSV, Parquet or plain text, told apart by their names; - is
standard input. OUT is Parquet or JSONL by its name, a folder of shards where it ends in a slash,
and - for JSONL on standard output.

Run it again after any kind of end and it goes on where it was. What is on standard input or output
cannot be resumed.

The key is in EMBEDPOOL_API_KEY, EMBEDPOOL_MASTER_KEY, LITELLM_MASTER_KEY or --key-file.

Exit codes: 0 every row is in OUT or rejected, 1 it is not, 2 nothing was started, 130 interrupted.
"""


def add_embed(embed: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add what the command `embed` takes."""
    embed.epilog = EPILOG
    embed.formatter_class = argparse.RawDescriptionHelpFormatter
    embed.add_argument("inputs", nargs="+", metavar="INPUT", help="what to embed, in this order")
    embed.add_argument("-o", "--output", metavar="OUT", help="where vectors go")
    _add_formats(embed)
    _add_pool(embed, environ)
    _add_pace(embed)
    embed.add_argument(
        "--dry-run", action="store_true", help="count rows, tokens and dollars; embed nothing"
    )
    embed.add_argument(
        "--restart", action="store_true", help="throw away what an earlier start has left"
    )


def _add_formats(embed: argparse.ArgumentParser) -> None:
    embed.add_argument(
        "--input-format",
        choices=("jsonl", "csv", "parquet", "text"),
        help="instead of what the inputs' names say (jsonl for standard input)",
    )
    embed.add_argument(
        "--field", default="text", metavar="NAME", help="the field or column to embed (text)"
    )
    embed.add_argument(
        "--id", metavar="NAME", help="the field that tells rows apart (their number)"
    )
    embed.add_argument(
        "--carry", type=names, default=[], metavar="A,B", help="fields that go into OUT as well"
    )
    embed.add_argument(
        "--format", choices=("parquet", "jsonl"), help="instead of what OUT's name says"
    )
    embed.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="(float32)"
    )
    embed.add_argument(
        "--shard-rows",
        type=_between(1, 10**9),
        metavar="N",
        help="make OUT a folder of files of so many rows, with a manifest",
    )
    embed.add_argument(
        "--rejects",
        metavar="FILE",
        help="where rows that fail go, with the reason (OUT.rejects.jsonl)",
    )


def _add_pool(embed: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    where = embed.add_mutually_exclusive_group()
    add_url(where, environ)
    where.add_argument("--local", action="store_true", help="start a pool for this run alone")
    embed.add_argument("--config", metavar="FILE", help="the configuration of --local's pool")
    embed.add_argument("--key-file", metavar="FILE", help="holds the key")
    embed.add_argument("--model", help="the pool's model (its only one)")
    embed.add_argument(
        "--dimensions", type=_between(1, 1 << 20), metavar="N", help="how long a vector is to be"
    )


def _add_pace(embed: argparse.ArgumentParser) -> None:
    bounded: tuple[tuple[str, int, int, str], ...] = (
        ("--batch", MAX_BATCH, DEFAULT_BATCH, "rows of a request"),
        ("--concurrency", MAX_CONCURRENCY, DEFAULT_CONCURRENCY, "requests at the same time"),
        (
            "--patience-s",
            MAX_PATIENCE_S,
            DEFAULT_PATIENCE_S,
            "seconds to keep trying while nothing works",
        ),
    )
    for flag, most, default, text in bounded:
        embed.add_argument(
            flag, type=_between(1, most), default=default, metavar="N", help=f"{text} ({default})"
        )
    embed.add_argument(
        "--max-usd", type=amount, metavar="USD", help="stop before more than this is spent"
    )


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = count(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"should be from {least} to {most}, not {value}")
        return value

    return number
