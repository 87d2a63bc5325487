"""The secret that a configuration names, and when there has to be one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedpool_shared.config.environment import SECRET_NAME
from embedpool_shared.errors import ConfigInvalid
from embedpool_shared.sealing import Secrets

if TYPE_CHECKING:
    from embedpool_shared.config.settings import Config


def secrets_of(config: Config) -> Secrets | None:
    """Derive what the configured secrets are for; None without a current one."""
    if config.auth.secret is None:
        return None
    older = [secret.get_secret_value() for secret in config.auth.old_secrets]
    return Secrets(config.auth.secret.get_secret_value(), older)


def require_secret(config: Config) -> None:
    """Raise `ConfigInvalid` where api and workers need the same secret and none is configured.

    Virtual keys, which only the holder of a master key can make, are found by digests under it;
    callers' own provider keys are encrypted with it.
    """
    if config.auth.secret is not None:
        return
    if config.auth.allow_passthrough_keys:
        need = "auth.allow_passthrough_keys"
    elif config.master_key is not None:
        need = "a master key"
    else:
        return
    raise ConfigInvalid(
        f"{need} needs a secret that api and workers share: set {SECRET_NAME} to the same random "
        "text for all of them (openssl rand -hex 32), or use `embedpool serve`, which makes one"
    )
