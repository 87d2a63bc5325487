"""`embedpool batches`: a running pool's batches, in a terminal.

Exit codes: 0 done, 1 the pool refused and said why, 2 the question could not be asked.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

from embedpool_cli.batches_rows import (
    MAX_PROBLEMS,
    Batch,
    batch_lines,
    batch_table,
    counts,
    failed_line,
    problem_lines,
)
from embedpool_cli.embed.caller_key import caller_key
from embedpool_cli.pool_client import PoolClient, Refused, Unreachable
from embedpool_cli.tables import printable
from embedpool_cli.terminal import NotAsked, Terminal

REFUSED: Final = 1
NOT_ASKED: Final = 2
PATH: Final = "/v1/batches"
PAGE_BATCHES: Final = 100
PEEK_BYTES: Final = 64 * 1024
NO_KEY: Final = "; set EMBEDPOOL_API_KEY, or name a file that holds the key with --key-file"
WORDS_OF: Final = {
    "cancelling": "{id} is being cancelled: what is under way is finished and kept, the other "
    "lines go to its error file as batch_cancelled.",
    "cancelled": "{id} is cancelled: what was done is kept, the other lines are in its error file.",
}


def run_batches(options: Namespace, environ: Mapping[str, str], terminal: Terminal) -> int:
    """Carry out one action; return the exit code."""
    try:
        pool = PoolClient(options.url, caller_key(options.key_file, environ))
        answer = ACTIONS[options.action](pool, options, terminal)
    except Refused as error:
        terminal.say(f"{error.message}{NO_KEY if error.status == 401 else ''}")
        return REFUSED
    except (NotAsked, Unreachable) as error:
        terminal.say(str(error))
        return NOT_ASKED
    print(answer, file=terminal.out, flush=True)
    return 0


def _list(pool: PoolClient, options: Namespace, terminal: Terminal) -> str:
    most = None if options.all else options.limit
    # One more tells whether there are more.
    found = list(islice(_newest_first(pool, options), most and most + 1))
    batches, has_more = found[:most], most is not None and len(found) > most
    if options.json:
        return _json({"object": "list", "data": batches, "has_more": has_more})
    if not batches:
        return "There are no older batches." if options.after else "There are no batches yet."
    if has_more:
        last = batches[-1].get("id")
        terminal.say(f"there are more: --all, or --after {last}")
    return "\n".join(batch_table(batches, now=_now()))


def _newest_first(pool: PoolClient, options: Namespace) -> Iterator[Batch]:
    """Ask for one page after the other, as long as somebody takes what is in them."""
    after = options.after
    size = PAGE_BATCHES if options.all else min(PAGE_BATCHES, options.limit + 1)
    while True:
        answer = pool.get(PATH, {"limit": size, "after": after})
        page = [batch for batch in answer.get("data", ()) if isinstance(batch, dict)]
        yield from page
        before, after = after, page[-1].get("id") if page else None
        if answer.get("has_more") is not True or after in {None, before}:
            return


def _show(pool: PoolClient, options: Namespace, _: Terminal) -> str:
    batch = pool.get(_path_of(options))
    if options.json:
        return _json(batch)
    lines = list(batch_lines(batch, now=_now()))
    problems = [*problem_lines(batch), *_failed_lines(pool, batch)]
    return "\n".join([*lines, "", *problems] if problems else lines)


def _failed_lines(pool: PoolClient, batch: Batch) -> Iterator[str]:
    """Say what became of the first lines that failed, once there is a file of them."""
    file = batch.get("error_file_id")
    if not isinstance(file, str):
        return
    path = f"/v1/files/{quote(file, safe='')}/content"
    try:
        rows = pool.start_of(path, max_bytes=PEEK_BYTES).splitlines(keepends=True)
    except Refused as error:
        yield f"{printable(file)}: {printable(error.message)}"
        return
    shown = [row for row in rows[:MAX_PROBLEMS] if row.endswith(b"\n")]
    for row in shown:
        yield failed_line(_object(row))
    failed = counts(batch).get("failed")
    if isinstance(failed, int) and failed > len(shown):
        yield f"… and {failed - len(shown):,} more in {printable(file)}"


def _cancel(pool: PoolClient, options: Namespace, _: Terminal) -> str:
    answer = pool.post(f"{_path_of(options)}/cancel", {})
    if options.json:
        return _json(answer)
    status = str(answer.get("status"))
    words = WORDS_OF.get(status, "{id} is " + printable(status) + ".")
    return words.replace("{id}", printable(options.id))


ACTIONS: Final[Mapping[str, Callable[[PoolClient, Namespace, Terminal], str]]] = {
    "list": _list,
    "show": _show,
    "cancel": _cancel,
}


def _path_of(options: Namespace) -> str:
    if not options.id:
        raise NotAsked("no batch was named: give its id, as `embedpool batches list` shows it")
    return f"{PATH}/{quote(options.id, safe='')}"


def _object(row: bytes) -> dict[str, Any]:
    try:
        found = json.loads(row)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _now() -> float:
    """Unix seconds by this machine's clock: people's ages need no better one."""
    return datetime.now(UTC).timestamp()


def _json(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, indent=2, ensure_ascii=True)
