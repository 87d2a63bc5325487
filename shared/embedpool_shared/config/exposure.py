"""Whether a configuration may listen on an address. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from embedpool_shared.errors import ConfigInvalid
from embedpool_shared.hosts import is_loopback

if TYPE_CHECKING:
    from embedpool_shared.config.settings import Config

WEAK_MASTER_KEYS: Final = frozenset(
    {
        "123456",
        "admin",
        "changeme",
        "embedpool",
        "key",
        "master",
        "master-key",
        "masterkey",
        "password",
        "secret",
        "sk-1234",
        "sk-12345",
        "sk-123456",
        "sk-changeme",
        "sk-master",
        "test",
    }
)
"""Placeholders of tutorials: everybody knows them."""
MIN_MASTER_KEY_CHARS: Final = 8


def has_weak_master_key(config: Config) -> bool:
    """Whether the master key is a well-known placeholder, or too short to be anything else."""
    if config.master_key is None:
        return False
    key = config.master_key.get_secret_value()
    return key.lower() in WEAK_MASTER_KEYS or len(key) < MIN_MASTER_KEY_CHARS


def refuse_exposure(config: Config, host: str, *, allow_weak_master_key: bool = False) -> None:
    """Raise `ConfigInvalid` if listening on `host` would let strangers in."""
    if is_loopback(host):
        return
    if config.master_key is None:
        raise ConfigInvalid(
            f"listening on {host} without a master key would let anybody in: set "
            "general_settings.master_key or EMBEDPOOL_MASTER_KEY, or listen on 127.0.0.1"
        )
    if has_weak_master_key(config) and not allow_weak_master_key:
        raise ConfigInvalid(
            f"listening on {host} with a well-known or very short master key: set a random one "
            "(openssl rand -hex 32), or say --allow-weak-master-key"
        )
