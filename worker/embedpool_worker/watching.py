"""What watches over a worker process: its witness, and the pulse that carries its numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from embedpool_shared.telemetry.heartbeat import beat
from embedpool_shared.telemetry.meters import Meters
from embedpool_shared.telemetry.outlet import Outlet
from embedpool_shared.telemetry.spans import Tracing
from embedpool_shared.telemetry.tracing import tracing
from embedpool_worker.fleet.understanding import Understanding
from embedpool_worker.metrics import WorkerMetrics
from embedpool_worker.witness import Witness

SERVICE: Final = "embedpool-worker"


@dataclass(frozen=True, slots=True)
class Watched:
    """The watching parts of one process."""

    witness: Witness
    outlet: Outlet
    tracing: Tracing | None = None

    async def beat(self) -> None:
        """Carry out what the witness knows, for ever."""
        await beat(self.witness.metrics.lag_s, self.outlet.carry_out)

    def close(self) -> None:
        """Show the last numbers, tell the last traces."""
        self.outlet.close()
        if self.tracing is not None:
            self.tracing.close()


def watch(found: Understanding, environ: Mapping[str, str], directory: Path | None) -> Watched:
    """Begin to watch over this process, with every series that its fleet can have."""
    meters = Meters()
    metrics = WorkerMetrics(meters, version=_version())
    served = {**found.fleet.groups, **found.fleet.wildcards}
    metrics.declare({name: [one.deployment for one in group] for name, group in served.items()})
    metrics.redis_up.set(1)
    told = tracing(environ, SERVICE)
    outlet = Outlet(meters, directory)
    outlet.carry_out()
    return Watched(Witness(metrics, models=served, tracing=told), outlet, told)


def _version() -> str:
    try:
        return version("embedpool")
    except PackageNotFoundError:
        return "0"  # run from a source tree
