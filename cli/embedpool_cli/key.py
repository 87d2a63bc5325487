"""`embedpool key`: a running pool's virtual keys, in a terminal.

Exit codes: 0 done, 1 the pool refused and said why, 2 the question could not be asked.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedpool_cli.key_rows import Key, key_id, key_lines, key_table
from embedpool_cli.master_key import master_key
from embedpool_cli.pool_client import PoolClient, Refused, Unreachable
from embedpool_cli.tables import printable
from embedpool_cli.terminal import NotAsked, Terminal

REFUSED: Final = 1
NOT_ASKED: Final = 2
PAGE_KEYS: Final = 100
MAX_PAGES: Final = 1_000
NOT_THE_MASTER_KEY: Final = "; is EMBEDPOOL_MASTER_KEY, or the file, this pool's master key?"
FIELDS: Final = (
    ("key_alias", "alias"),
    ("models", "models"),
    ("team_id", "team"),
    ("user_id", "user"),
    ("rpm_limit", "rpm"),
    ("tpm_limit", "tpm"),
    ("max_parallel_requests", "parallel"),
    ("max_budget", "budget"),
    ("budget_duration", "budget_duration"),
    ("duration", "expires"),
    ("tags", "tags"),
    ("metadata", "metadata"),
    ("default_class", "default_class"),
)
"""LiteLLM's name of each field of a new key, and our flag for it."""


def run_key(options: Namespace, environ: Mapping[str, str], terminal: Terminal) -> int:
    """Carry out one action; return the exit code."""
    try:
        pool = PoolClient(options.url, master_key(options.master_key_file, environ))
        answer = ACTIONS[options.action](pool, options, terminal)
    except Refused as error:
        hint = NOT_THE_MASTER_KEY if error.status == 401 else ""
        terminal.say(f"{error.message}{hint}")
        return REFUSED
    except (NotAsked, Unreachable) as error:
        terminal.say(str(error))
        return NOT_ASKED
    print(answer, file=terminal.out, flush=True)
    return 0


def _create(pool: PoolClient, options: Namespace, _: Terminal) -> str:
    asked = {field: getattr(options, flag) for field, flag in FIELDS}
    body = {field: value for field, value in asked.items() if value is not None}
    return _new_key(pool.post("/key/generate", body), options)


def _rotate(pool: PoolClient, options: Namespace, terminal: Terminal) -> str:
    found = _found(pool, _named(options, terminal))
    return _new_key(pool.post("/key/regenerate", {"key": found.name}), options)


def _new_key(answer: dict[str, Any], options: Namespace) -> str:
    secret = answer.get("key")
    if not isinstance(secret, str):
        raise Unreachable("the pool's answer holds no key: is it an embedpool of this version?")
    if options.json:
        return _json(answer)
    if options.quiet:
        return printable(secret)
    return "\n".join(
        [*key_lines(answer, secret=secret), "", "The key is shown this once; keep it."]
    )


def _list(pool: PoolClient, options: Namespace, _: Terminal) -> str:
    keys = _all_keys(pool, team_id=options.team, user_id=options.user)
    if options.json:
        return _json({"keys": keys, "total_count": len(keys)})
    return "\n".join(key_table(keys)) if keys else "There are no virtual keys yet."


def _info(pool: PoolClient, options: Namespace, terminal: Terminal) -> str:
    found = _found(pool, _named(options, terminal))
    answer = pool.get("/key/info", {"key": found.name})
    return _json(answer) if options.json else "\n".join(key_lines(answer.get("info", answer)))


def _revoke(pool: PoolClient, options: Namespace, terminal: Terminal) -> str:
    found = _found(pool, _named(options, terminal))
    asks = terminal.is_interactive and not options.yes
    if asks and not terminal.confirms(f"Revoke {found.title} for good?"):
        raise NotAsked("nothing was revoked")
    answer = pool.post("/key/delete", {"keys": [found.name]})
    return _json(answer) if options.json else f"Revoked {found.title}."


ACTIONS: Final[Mapping[str, Callable[[PoolClient, Namespace, Terminal], str]]] = {
    "create": _create,
    "list": _list,
    "info": _info,
    "revoke": _revoke,
    "rotate": _rotate,
}


@dataclass(frozen=True, slots=True)
class _Found:
    """A key that was named on the command line."""

    name: str  # what the pool is told
    title: str  # what the terminal is told: never a whole key


def _named(options: Namespace, terminal: Terminal) -> str:
    name: str = options.name
    if name == "-":
        name = terminal.line()
    if not name:
        raise NotAsked("no key was named: give its alias, its id, or the key itself")
    return name


def _found(pool: PoolClient, name: str) -> _Found:
    """Find a key by its alias or id; any other name is the pool's to understand.

    The pool is asked for all of them: a name may be a key, and no URL should hold one.
    """
    for key in _all_keys(pool):
        if name in {key.get("key_alias"), key_id(key)}:
            shown = printable(str(key.get("key_alias") or key.get("key_name") or key_id(key)))
            return _Found(key_id(key), f"the key {shown}")
    return _Found(name, "the key")


def _all_keys(pool: PoolClient, **wanted: str | None) -> list[Key]:
    keys: list[Key] = []
    for page in range(1, MAX_PAGES + 1):
        query = {"return_full_object": "true", "page": page, "size": PAGE_KEYS, **wanted}
        answer = pool.get("/key/list", query)
        keys += [key for key in answer.get("keys", ()) if isinstance(key, dict)]
        pages = answer.get("total_pages")
        if not isinstance(pages, int) or page >= pages:
            break
    return keys


def _json(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, indent=2, ensure_ascii=True)
