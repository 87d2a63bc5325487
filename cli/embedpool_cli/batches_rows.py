"""Batches as a terminal shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from embedpool_cli.embed.budget import dollars, pico_usd
from embedpool_cli.tables import printable, table

COLUMNS: Final = ("id", "status", "done", "failed", "total", "tokens", "cost", "age")
MORE: Final = (
    ("model", "model"),
    ("input file", "input_file_id"),
    ("output file", "output_file_id"),
    ("error file", "error_file_id"),
)
INSTANTS: Final = (
    ("created", "created_at"),
    ("in progress", "in_progress_at"),
    ("cancelling", "cancelling_at"),
    ("finalizing", "finalizing_at"),
    ("completed", "completed_at"),
    ("failed", "failed_at"),
    ("expired", "expired_at"),
    ("cancelled", "cancelled_at"),
    ("expires", "expires_at"),
)
UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
MAX_PROBLEMS: Final = 5
UNKNOWN: Final = "-"

Batch = Mapping[str, Any]


def batch_table(batches: Sequence[Batch], *, now: float) -> Iterator[str]:
    """Show one batch a line; `now` in Unix seconds."""
    yield from table([COLUMNS, *(_cells(batch, now) for batch in batches)])


def batch_lines(batch: Batch, *, now: float) -> Iterator[str]:
    """Show all that is known of one batch, one fact a line."""
    facts = list(zip(COLUMNS, _cells(batch, now), strict=True))
    facts += [(title, _text(batch[name])) for title, name in MORE if batch.get(name)]
    facts += [(title, _instant(batch[name])) for title, name in INSTANTS if batch.get(name)]
    if owner := _extras(batch).get("owner"):
        facts.append(("owner", _text(owner)))
    given = batch.get("metadata")
    pairs = given.items() if isinstance(given, dict) else ()
    facts += [(f"metadata {_text(name)}", _text(value)) for name, value in pairs]
    yield from table(facts)


def problem_lines(batch: Batch) -> Iterator[str]:
    """Say why the whole batch failed: the first of its problems, and how many more there are."""
    errors = batch.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else None
    problems = [one for one in listed or () if isinstance(one, dict)]
    for problem in problems[:MAX_PROBLEMS]:
        line = problem.get("line")
        where = f"line {line}: " if isinstance(line, int) else ""
        yield f"{where}{_text(problem.get('message'))} ({_text(problem.get('code'))})"
    if len(problems) > MAX_PROBLEMS:
        yield f"… and {len(problems) - MAX_PROBLEMS} more: --json shows all"


def failed_line(row: Mapping[str, Any]) -> str:
    """Say in one line what became of a line of the error file."""
    name = _text(row.get("custom_id"))
    error, status = row.get("error"), ""
    response = row.get("response")
    if not isinstance(error, dict) and isinstance(response, dict):
        body = response.get("body")
        error = body.get("error") if isinstance(body, dict) else None
        status = _text(response.get("status_code"))
    said = error if isinstance(error, dict) else {}
    why = " ".join(filter(None, (status, _text(said.get("code")))))
    return f"{name}: {_text(said.get('message'))}" + (f" ({why})" if why else "")


def counts(batch: Batch) -> Mapping[str, Any]:
    """How many of its lines are done, failed, and there at all."""
    found = batch.get("request_counts")
    return found if isinstance(found, dict) else {}


def _cells(batch: Batch, now: float) -> tuple[str, ...]:
    usage = batch.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    lines = counts(batch)
    return (
        _text(batch.get("id")),
        _text(batch.get("status")),
        *(_number(lines.get(name)) for name in ("completed", "failed", "total")),
        _number(tokens),
        _cost(_extras(batch).get("cost_usd")),
        _age(batch.get("created_at"), now),
    )


def _extras(batch: Batch) -> Mapping[str, Any]:
    """What a pool says of a batch beyond OpenAI."""
    found = batch.get("embedpool")
    return found if isinstance(found, dict) else {}


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN


def _cost(value: object) -> str:
    return dollars(pico_usd(value)) if isinstance(value, str) else UNKNOWN


def _age(created_at: object, now: float) -> str:
    """Say how old something is, in the largest unit of which it has two."""
    if not isinstance(created_at, int | float):
        return UNKNOWN
    # The pool's clock may be ahead of ours.
    seconds = max(0, int(now - created_at))
    for size_s, unit in UNITS:
        if seconds >= 2 * size_s:
            return f"{seconds // size_s} {unit}"
    return f"{seconds} s"


def _instant(value: object) -> str:
    try:
        at = datetime.fromtimestamp(float(_text(value)), UTC)
    except (ValueError, OverflowError, OSError):
        return _text(value)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _text(value: object) -> str:
    return "" if value is None else printable(str(value))
