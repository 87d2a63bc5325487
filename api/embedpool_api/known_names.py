"""Which model names the configuration rules out while no worker has published a catalogue. Pure."""

from __future__ import annotations

from collections.abc import Callable

from embedpool_shared.catalog import same_name
from embedpool_shared.config.settings import Config


def rules_out(config: Config, *, has_file: bool) -> Callable[[str], bool]:
    """Make the test: True for a name that cannot be served, whatever the catalogue will say.

    Only a configuration that lists everything it serves rules anything out.
    """
    names = [entry.model_name for entry in config.model_list]
    serves_unlisted = config.unlisted_providers or (
        config.unlisted_providers is None and config.master_key is None
    )
    if not has_file or serves_unlisted or any("*" in name for name in names):
        return lambda _: False
    known = {same_name(name) for name in (*names, *config.router_settings.aliases())}

    def is_ruled_out(name: str) -> bool:
        base, at, _ = name.rpartition("@")
        return same_name(name) not in known and not (at and same_name(base) in known)

    return is_ruled_out
