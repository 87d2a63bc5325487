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
MIN_SECRET_LETTERS: Final = 6
"""Different ones; 32 random hexadecimal digits have fewer once in 10^12 times."""


def has_weak_master_key(config: Config) -> bool:
    """Whether the master key is a well-known placeholder, or too short to be anything else."""
    if config.master_key is None:
        return False
    key = config.master_key.get_secret_value()
    return key.lower() in WEAK_MASTER_KEYS or len(key) < MIN_MASTER_KEY_CHARS


def has_weak_secret(config: Config) -> bool:
    """Whether a secret, the current or an older one, could be guessed from what it protects.

    The master key travels with requests, so it is no secret in this sense either.
    """
    secrets = (config.auth.secret, *config.auth.old_secrets)
    plain = [secret.get_secret_value() for secret in secrets if secret is not None]
    known = config.master_key.get_secret_value() if config.master_key else None
    return any(secret == known or _is_weak(secret) for secret in plain)


def _is_weak(secret: str) -> bool:
    repeated = any(secret.lower().replace(word, "") == "" for word in WEAK_MASTER_KEYS)
    return repeated or len(set(secret)) < MIN_SECRET_LETTERS


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
