"""Which Redis a process' connections go to: lanes may live apart from everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import SecretStr

from embedpool_shared.config.settings import Config
from embedpool_shared.errors import ConfigInvalid
from embedpool_shared.redis import Line, RedisAddress, connection_pool

DIRECTORY_ROLES: Final = frozenset(
    {
        "accounts",
        "admin",
        "admission",
        "announce",
        "bulk",
        "caps",
        "catalog",
        "directory",
        "keys",
        "lead",
        "presence",
        "roll-accounts",
        "status",
    }
)
"""Connections for what is not of one lane: who lives, who pays, what is served, how keys are."""

CACHE_ROLES: Final = frozenset({"cache", "cache-write"})


def main_address(config: Config) -> RedisAddress:
    """Say where everything is that no other URL names; raises `ConfigInvalid` if nowhere."""
    url = config.redis.url
    if url is None:
        raise ConfigInvalid(
            "redis.url is not set: name a Redis or Valkey in the config or in REDIS_URL, "
            "or use `embedpool serve`, which brings one"
        )
    return RedisAddress(url.get_secret_value(), config.redis.ca_file)


def lanes_address(config: Config) -> RedisAddress:
    """Say where the lanes are."""
    return _own_address(config, config.redis.lanes_url)


def jobs_address(config: Config) -> RedisAddress:
    """Say where arq's jobs are."""
    return _own_address(config, config.redis.jobs_url)


def cache_address(config: Config) -> RedisAddress:
    """Say where cached vectors are."""
    return _own_address(config, config.cache.url)


def _own_address(config: Config, url: SecretStr | None) -> RedisAddress:
    if url is None:
        return main_address(config)
    return RedisAddress(url.get_secret_value(), config.redis.ca_file)


def lines(config: Config, process: str) -> Callable[[str], Line]:
    """Make the maker of a process' connections: one for each role, named so in CLIENT LIST."""
    main, lanes, cache = main_address(config), lanes_address(config), cache_address(config)

    def line(role: str) -> Line:
        address = main if role in DIRECTORY_ROLES else cache if role in CACHE_ROLES else lanes
        return Line(connection_pool(address, client_name=f"embedpool-{process}:{role}"))

    return line
