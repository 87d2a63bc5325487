"""What one `embedpool serve` is going to run."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from embedpool_cli.children import child_command
from embedpool_cli.embedded_valkey import EmbeddedValkey
from embedpool_cli.listening import base_url
from embedpool_cli.supervisor import Say
from embedpool_shared.config.environment import FILES_URL_NAME, SECRET_NAME
from embedpool_shared.config.settings import Config
from embedpool_shared.telemetry.outlet import RUN_DIRECTORY

FILES: Final = "files"
"""The folder of the data directory that holds the files of batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the command line says."""

    config_path: str | None
    host: str
    port: int
    workers: int
    api_processes: int
    data_directory: Path
    allow_weak_master_key: bool


Command = Callable[..., tuple[str, ...]]
"""Makes the command line of `embedpool <arguments>`."""


def embedpool_command(*arguments: str) -> tuple[str, ...]:
    """Write the command line of another `embedpool` under this one."""
    return child_command("embedpool", *arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is going to run."""

    options: ServeOptions
    config: Config
    environ: Mapping[str, str] = field(repr=False)
    listener: socket.socket
    say: Say
    valkey: EmbeddedValkey | None = None
    kept_secret: SecretStr | None = None
    run_directory: Path | None = None  # where the processes leave their numbers
    command: Command = embedpool_command

    def with_store(self, valkey: EmbeddedValkey) -> Plan:
        """Add the store that no configuration named."""
        redis = self.config.redis.model_copy(update={"url": SecretStr(valkey.url)})
        config = self.config.model_copy(update={"redis": redis})
        return replace(self, valkey=valkey, config=config)

    def with_secret(self, secret: str) -> Plan:
        """Add the secret that no configuration named."""
        kept = SecretStr(secret)
        auth = self.config.auth.model_copy(update={"secret": kept})
        return replace(self, kept_secret=kept, config=self.config.model_copy(update={"auth": auth}))

    def with_run_directory(self, directory: Path | None) -> Plan:
        """Add where the processes leave their numbers, if anywhere."""
        return replace(self, run_directory=directory)

    @property
    def url(self) -> str:
        """Where we are."""
        return base_url(self.options.host, self.listener.getsockname()[1])

    @property
    def child_environ(self) -> dict[str, str]:
        """What every child finds in its environment."""
        own = {
            "EMBEDPOOL_DATA_DIR": str(self.options.data_directory),
            RUN_DIRECTORY: str(self.run_directory or ""),
        }
        if self.config.files.url is None:
            own[FILES_URL_NAME] = f"file://{self.options.data_directory / FILES}"
        if self.valkey:
            own["REDIS_URL"] = self.valkey.url
        if self.kept_secret:
            own[SECRET_NAME] = self.kept_secret.get_secret_value()
        return {**self.environ, **own}
