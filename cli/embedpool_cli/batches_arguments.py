"""What can be said after `embedpool batches`. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from embedpool_cli.argument_types import count
from embedpool_cli.pool_arguments import pool_action

DEFAULT_LIMIT: Final = 20
EPILOG: Final = """\
The pool must be running. The key is in EMBEDPOOL_API_KEY, EMBEDPOOL_MASTER_KEY,
LITELLM_MASTER_KEY or --key-file; a virtual key sees the batches of its team, or its own.
An open pool wants none. `embedpool batches <action> --help` tells more.
"""


def add_batches_actions(batches: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add list, show and cancel to the command `batches`."""
    batches.epilog = EPILOG
    batches.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = batches.add_subparsers(dest="action", required=True, metavar="action")
    _add_paging(_action(actions, "list", "show batches, newest first", environ))
    _add_id(_action(actions, "show", "show all that is known of one batch", environ))
    cancel = "end a batch early; what is done is kept"
    _add_id(_action(actions, "cancel", cancel, environ))


def _action(
    actions: Any, name: str, summary: str, environ: Mapping[str, str]
) -> argparse.ArgumentParser:
    action = pool_action(actions, name, summary, environ)
    action.add_argument("--key-file", metavar="FILE", help="holds the key")
    return action


def _add_id(action: argparse.ArgumentParser) -> None:
    action.add_argument("id", metavar="BATCH", help="its id, like batch_…")


def _add_paging(listing: argparse.ArgumentParser) -> None:
    most = listing.add_mutually_exclusive_group()
    most.add_argument(
        "--limit",
        type=_at_least_one,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"how many ({DEFAULT_LIMIT})",
    )
    most.add_argument("--all", action="store_true", help="every batch there is")
    listing.add_argument("--after", metavar="BATCH", help="only those older than this one")


def _at_least_one(text: str) -> int:
    number = count(text)
    if not number:
        raise argparse.ArgumentTypeError("should be 1 or more")
    return number
