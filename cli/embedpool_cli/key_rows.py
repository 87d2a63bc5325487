"""Virtual keys as a terminal shows them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from embedpool_cli.tables import printable, table

COLUMNS: Final = ("alias", "id", "key", "models", "limits", "spent", "expires", "blocked")
LIMITS: Final = (("rpm", "rpm_limit"), ("tpm", "tpm_limit"), ("parallel", "max_parallel_requests"))
MORE: Final = (
    ("team", "team_id"),
    ("user", "user_id"),
    ("class", "default_class"),
    ("tags", "tags"),
    ("metadata", "metadata"),
    ("budget renewed", "budget_reset_at"),
    ("created", "created_at"),
)
INSTANTS: Final = frozenset({"budget_reset_at", "created_at"})
MAX_MODELS: Final = 3

Key = Mapping[str, Any]


def key_table(keys: Sequence[Key]) -> Iterator[str]:
    """Show one key a line."""
    yield from table([COLUMNS, *(_cells(key) for key in keys)])


def key_lines(key: Key, *, secret: str | None = None) -> Iterator[str]:
    """Show all that is known of one key, one fact a line; with its secret if it was just made."""
    cells = dict(zip(COLUMNS, _cells(key, max_models=None), strict=True))
    if secret is not None:
        cells["key"] = printable(secret)
    more = {title: _shown(name, key[name]) for title, name in MORE if key.get(name)}
    yield from table([(title, text) for title, text in {**cells, **more}.items() if text])


def key_id(key: Key) -> str:
    """The name by which the pool knows a key that is not the key itself."""
    return _text(key.get("token_id") or key.get("token"))


def _cells(key: Key, *, max_models: int | None = MAX_MODELS) -> tuple[str, ...]:
    return (
        _text(key.get("key_alias")) or "-",
        key_id(key),
        _text(key.get("key_name")),
        _models(key.get("models"), max_models),
        ", ".join(f"{unit} {key[name]}" for unit, name in LIMITS if key.get(name) is not None)
        or "none",
        _spent(key),
        _time(key.get("expires")) or "never",
        "yes" if key.get("blocked") else "no",
    )


def _models(models: object, max_models: int | None) -> str:
    names = [_text(name) for name in models] if isinstance(models, list) else []
    if max_models is not None and len(names) > max_models:
        names = [*names[:max_models], f"{len(names) - max_models} more"]
    return ", ".join(names) or "all"


def _spent(key: Key) -> str:
    """Show what was spent, of a budget in its current period, else ever."""
    budget, duration = key.get("max_budget"), key.get("budget_duration")
    if not isinstance(budget, int | float):
        return _dollars(key.get("spend"))
    period = f" in {_text(duration)}" if duration else ""
    return f"{_dollars(key.get('budget_spend', key.get('spend')))} of {_dollars(budget)}{period}"


def _dollars(value: object) -> str:
    """Two decimals at least, and six of what is less than a dollar."""
    amount = value if isinstance(value, int | float) else 0.0
    text = f"{amount:,.2f}" if amount >= 1 else f"{amount:.6f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"


def _shown(name: str, value: object) -> str:
    if name in INSTANTS:
        return _time(value)
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return json.dumps(value) if isinstance(value, dict) else _text(value)


def _time(value: object) -> str:
    """Show an instant to the minute, in UTC; what is none, as it is."""
    try:
        if isinstance(value, int | float):
            at = datetime.fromtimestamp(value, UTC)
        else:
            at = datetime.fromisoformat(_text(value))
    except (ValueError, OverflowError, OSError):
        return _text(value)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _text(value: object) -> str:
    return "" if value is None else printable(str(value))
