"""What a configuration comes to: who serves what, what callers can ask for, what is to be said."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from embedpool_shared.catalog import Catalog
from embedpool_shared.config.file import LoadedConfig, load_config
from embedpool_shared.config.notices import Notice
from embedpool_worker.fleet.catalogue import catalogue, unserved_names
from embedpool_worker.fleet.groups import Fleet, build_fleet
from embedpool_worker.fleet.model_names import KnownModels
from embedpool_worker.providers.model_modes import other_modes
from embedpool_worker.providers.price_map import price_map


@dataclass(frozen=True, slots=True)
class Understanding:
    """A configuration, read with the price map's eyes."""

    loaded: LoadedConfig
    fleet: Fleet
    catalog: Catalog
    notices: tuple[Notice, ...]


def understood(path: str | None, environ: Mapping[str, str]) -> Understanding:
    """Read the configuration at `path`, or the environment alone; raises `ConfigInvalid`."""
    loaded = load_config(path, environ)
    known = KnownModels(price_map(), other_modes())
    has_local_model = importlib.util.find_spec("wordllama") is not None
    fleet = build_fleet(loaded, known, environ, has_local_model=has_local_model)
    notices = (*loaded.notices, *fleet.notices, *unserved_names(loaded, fleet))
    return Understanding(loaded, fleet, catalogue(loaded, fleet), notices)
