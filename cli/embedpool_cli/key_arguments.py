"""What can be said after `embedpool key`. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from embedpool_cli.argument_types import amount, count, json_object, names
from embedpool_cli.pool_arguments import pool_action

EPILOG: Final = """\
The pool must be running; it is asked with its master key, from EMBEDPOOL_MASTER_KEY,
LITELLM_MASTER_KEY or --master-key-file. `embedpool key <action> --help` tells more.
"""
NAME_HELP: Final = "its alias, its id, or the key itself; - reads that from standard input"


def add_key_actions(key: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add create, list, info, revoke and rotate to the command `key`."""
    key.epilog = EPILOG
    key.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = key.add_subparsers(dest="action", required=True, metavar="action")
    create = _action(actions, "create", "make a virtual key and show it, once", environ)
    _add_limits(create)
    _add_quiet(create)
    listing = _action(actions, "list", "show every virtual key", environ)
    listing.add_argument("--team", metavar="ID", help="only this team's keys")
    listing.add_argument("--user", metavar="ID", help="only this user's keys")
    _add_name(_action(actions, "info", "show one virtual key", environ))
    revoke = _action(actions, "revoke", "delete a virtual key, for good", environ)
    _add_name(revoke)
    revoke.add_argument("--yes", action="store_true", help="do not ask")
    rotate = _action(
        actions, "rotate", "replace a virtual key's secret; limits and spend stay", environ
    )
    _add_name(rotate)
    _add_quiet(rotate)


def _action(
    actions: Any, name: str, summary: str, environ: Mapping[str, str]
) -> argparse.ArgumentParser:
    action = pool_action(actions, name, summary, environ)
    action.add_argument(
        "--master-key-file",
        metavar="FILE",
        help="holds the master key; without it EMBEDPOOL_MASTER_KEY or LITELLM_MASTER_KEY does",
    )
    return action


def _add_name(action: argparse.ArgumentParser) -> None:
    action.add_argument("name", metavar="KEY", help=NAME_HELP)


def _add_quiet(action: argparse.ArgumentParser) -> None:
    action.add_argument("--quiet", action="store_true", help="print the key and nothing else")


def _add_limits(create: argparse.ArgumentParser) -> None:
    flags: tuple[tuple[str, str, Any, str], ...] = (
        ("--alias", "NAME", str, "what to call it"),
        ("--models", "A,B", names, "the models it may use, also patterns with * (all)"),
        ("--team", "ID", str, "the team it belongs to, whose limits bound it too"),
        ("--user", "ID", str, "the user it belongs to, whose limits bound it too"),
        ("--rpm", "N", count, "requests a minute"),
        ("--tpm", "N", count, "tokens a minute"),
        ("--parallel", "N", count, "requests at the same time"),
        ("--budget", "USD", amount, "dollars it may spend"),
        ("--budget-duration", "TIME", str, "when that begins anew: 30d, 1mo … (never)"),
        ("--expires", "TIME", str, "how long it is good for: 30d, 12h … (for ever)"),
        ("--tags", "A,B", names, "under which its spend is counted as well"),
        ("--metadata", "JSON", json_object, "an object that is kept with it"),
    )
    for flag, metavar, kind, text in flags:
        create.add_argument(flag, metavar=metavar, type=kind, help=text)
    create.add_argument(
        "--class",
        dest="default_class",
        choices=("interactive", "bulk"),
        help="how its requests wait unless they say so themselves (interactive)",
    )
