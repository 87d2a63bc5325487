"""Where the numbers of a process go, and who shows them: its parent, or nobody but itself.

Under a parent (`embedpool serve`) a process finds in its environment where to leave its numbers. On
its own it is its own parent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from embedpool_shared.config.settings import Config
from embedpool_shared.measures import Role
from embedpool_shared.telemetry.exporter import exported
from embedpool_shared.telemetry.meters import Meters
from embedpool_shared.telemetry.prometheus import SeriesFiles
from embedpool_shared.telemetry.run_directory import (
    Slot,
    new_run_directory,
    role_directory,
    take_slot,
)
from embedpool_shared.telemetry.target import target

RUN_DIRECTORY: Final = "EMBEDPOOL_RUN_DIR"
"""Names the parent's directory in a child's environment; empty: there is none."""
log = logging.getLogger(__name__)


class Outlet:
    """Carries the numbers of one process to where they are shown."""

    def __init__(self, meters: Meters, directory: Path | None) -> None:
        """Carry `meters` to the directory of its role; nowhere without one."""
        self.directory = directory
        self._meters = meters
        self._slot: Slot | None = None
        self._files: SeriesFiles | None = None
        if directory is not None:
            self._slot = take_slot(directory)
            self._files = SeriesFiles(directory, self._slot.number)

    def carry_out(self) -> None:
        """Show what has changed."""
        if self._files:
            self._files.write(self._meters)

    def close(self) -> None:
        """Show the last numbers, and leave."""
        self.carry_out()
        if self._files and self._slot:
            self._files.close()
            self._slot.leave()
        self._files = self._slot = None


@contextmanager
def parenting(config: Config) -> Iterator[Path | None]:
    """Serve the targets of both roles; yields what the children find as `RUN_DIRECTORY`."""
    with _served(config, tuple(role for role in Role if role is not Role.BOTH)) as base:
        yield base


@contextmanager
def joining(role: Role, config: Config, environ: Mapping[str, str]) -> Iterator[Path | None]:
    """Yield where a process of a role leaves its numbers; without a parent, serve its target."""
    given = environ.get(RUN_DIRECTORY)
    if given is not None:
        yield role_directory(Path(given), role) if given else None
        return
    with _served(config, (role,)) as base:
        yield None if base is None else role_directory(base, role)


@contextmanager
def _served(config: Config, roles: tuple[Role, ...]) -> Iterator[Path | None]:
    with ExitStack() as served:
        try:
            base = served.enter_context(new_run_directory())
        except OSError as error:
            log.warning("metrics_have_no_directory reason=%s", error.strerror)
            yield None
            return
        for role in roles:
            directory = role_directory(base, role)
            served.enter_context(exported(role, config.metrics, target(role, config, directory)))
        yield base
