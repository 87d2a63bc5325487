"""`embedpool check`: says what a configuration means, before anything runs with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TextIO

from embedpool_cli.masking import bare_address, masked
from embedpool_cli.tables import table
from embedpool_shared.config.environment import Setting, our_settings
from embedpool_shared.config.notices import Notice, NoticeKind
from embedpool_shared.errors import ConfigInvalid
from embedpool_worker.deployments import Adapter
from embedpool_worker.fleet.groups import LOCAL_MODEL
from embedpool_worker.fleet.understanding import understood

if TYPE_CHECKING:
    from embedpool_shared.catalog import Catalog, ModelCard
    from embedpool_shared.config.file import LoadedConfig
    from embedpool_shared.config.settings import Config
    from embedpool_worker.fleet.assembly import Served
    from embedpool_worker.fleet.groups import Fleet

COLUMNS: Final = (
    "deployment",
    "provider",
    "its own name",
    "address",
    "keys",
    "a call takes at most",
    "limits of a key",
)
MICRO: Final = 1_000_000


def check(path: str | None, environ: Mapping[str, str], out: TextIO) -> int:
    """Print what the configuration at `path` means; the exit code is 1 if it cannot be used."""
    try:
        lines = list(_report(path, environ))
    except ConfigInvalid as error:
        print(f"error: {error.message}", file=out)
        return 1
    print(*lines, sep="\n", file=out)
    return 0


def _report(path: str | None, environ: Mapping[str, str]) -> Iterator[str]:
    found = understood(path, environ)
    loaded, fleet, catalog, notices = found.loaded, found.fleet, found.catalog, found.notices
    yield f"{loaded.path or 'no file, environment only'}: good"
    yield from _titled("Models", _models(loaded, fleet, catalog))
    yield from _titled("Any other name", _wildcards(fleet, catalog))
    yield from _titled("Aliases", _aliases(catalog))
    yield from _titled("Callers", [_callers(loaded.config)])
    yield from _titled("Settings that are not at their default", _changed(loaded.config))
    yield from _titled("Warnings", _notices(notices, NoticeKind.WARNING))
    yield from _titled("Ignored", _notices(notices, NoticeKind.IGNORED))


def _titled(title: str, lines: Iterable[str]) -> Iterator[str]:
    body = list(lines)
    if body:
        yield from ("", title, *(f"  {line}" for line in body))


def _models(loaded: LoadedConfig, fleet: Fleet, catalog: Catalog) -> Iterator[str]:
    listed = {entry.model_name for entry in loaded.config.model_list} | {LOCAL_MODEL}
    shown = {name: group for name, group in fleet.groups.items() if name in listed}
    if not shown:
        return
    rows = [_row(one) for group in shown.values() for one in group]
    lines = table([COLUMNS, *rows])
    yield f"  {next(lines)}"
    for name, group in shown.items():
        yield f"{name}: {_about(catalog.models[name])}"
        yield from (f"  {next(lines)}" for _ in group)


def _row(one: Served) -> Sequence[str]:
    deployment, caps = one.deployment, one.deployment.caps
    takes = [
        "1 item" if caps.max_items == 1 else f"{caps.max_items} items",
        f"{caps.max_item_tokens} tokens each",
    ]
    if caps.max_call_tokens:
        takes.append(f"{caps.max_call_tokens} tokens")
    if caps.max_call_bytes:
        takes.append(f"{caps.max_call_bytes} bytes")
    per_key = [
        f"{unit} {limit}"
        for unit, limit in (("rpm", deployment.rpm), ("tpm", deployment.tpm))
        if limit
    ]
    upstream = deployment.upstream_model
    cells = (deployment.id, deployment.provider, upstream, _address(one), _keys(one))
    return *cells, ", ".join(takes), ", ".join(per_key)


def _address(one: Served) -> str:
    if one.deployment.api_base:
        return bare_address(one.deployment.api_base)
    return "this process" if one.deployment.adapter is Adapter.LOCAL else "the provider's own"


def _keys(one: Served) -> str:
    if one.missing:
        return one.missing.partition(":")[0]
    return ", ".join(masked(key.secret) for key in one.deployment.keys) or "none needed"


def _about(card: ModelCard) -> str:
    size = f"{card.dimensions} dimensions" if card.dimensions else "dimensions unknown"
    facts = [size]
    if isinstance(card.dimensions_allowed, str):
        facts.append("fewer on request")
    elif card.dimensions_allowed:
        facts.append(f"on request {', '.join(map(str, card.dimensions_allowed))}")
    if card.price_per_token_pico_usd:
        facts.append(f"${card.price_per_token_pico_usd / MICRO:g} per million tokens")
    return "; ".join(facts)


def _wildcards(fleet: Fleet, catalog: Catalog) -> Iterator[str]:
    rows = [
        (card.name, ", ".join(card.providers), ", ".join(_keys(one) for one in group))
        for card, group in zip(catalog.wildcards, fleet.wildcards.values(), strict=True)
    ]
    if rows:
        yield from table((("pattern", "provider", "keys"), *rows))


def _aliases(catalog: Catalog) -> Iterator[str]:
    yield from table([(alias, f"→ {name}") for alias, name in catalog.aliases.items()])


def _callers(config: Config) -> str:
    if config.master_key is None:
        return "open: anybody on this machine may call; no master key, so loopback only"
    return f"master key {masked(config.master_key.get_secret_value())}"


def _changed(config: Config) -> Iterator[str]:
    rows = [
        (setting.name, _shown(setting, setting.value_in(config)))
        for setting in our_settings()
        if setting.value_in(config) != setting.field.get_default()
    ]
    yield from table(rows)


def _shown(setting: Setting, value: object) -> str:
    if setting.is_secret and setting.path[-1].endswith("url"):
        return bare_address(_plain(value))
    if setting.is_secret:
        return "set"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plain(value: object) -> str:
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal() if reveal else value)


def _notices(notices: Iterable[Notice], kind: NoticeKind) -> Iterator[str]:
    said = dict.fromkeys((n.path, n.reason) for n in notices if n.kind is kind)
    return (f"{path}: {reason}" for path, reason in said)
