"""What every action says that asks a running pool. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from embedpool_cli.argument_types import url

DEFAULT_URL: Final = "http://127.0.0.1:4000"


def pool_action(
    actions: Any, name: str, summary: str, environ: Mapping[str, str]
) -> argparse.ArgumentParser:
    """Add an action that asks a running pool: where it is, and whether to print its answer raw."""
    action: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
    )
    add_url(action, environ)
    action.add_argument("--json", action="store_true", help="print the pool's answer as JSON")
    return action


def add_url(action: Any, environ: Mapping[str, str]) -> None:
    """Add where the pool is, to an action or to a group of an action's choices."""
    action.add_argument(
        "--url",
        type=url,
        # A default that is text goes through `type` as well.
        default=environ.get("EMBEDPOOL_URL") or DEFAULT_URL,
        help=f"where the pool is (EMBEDPOOL_URL, else {DEFAULT_URL})",
    )
