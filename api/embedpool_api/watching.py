"""What watches over an api process: its witness, and the pulse that carries its numbers out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from embedpool_api.callers import Caller
from embedpool_api.metrics import ApiMetrics
from embedpool_api.observer import Observer
from embedpool_api.request_log import RequestLog
from embedpool_api.routes.metrics import MetricsParts
from embedpool_api.traces import RequestTraces
from embedpool_api.witness import Witness
from embedpool_shared.catalog import Catalog
from embedpool_shared.config.settings import Config
from embedpool_shared.measures import MAX_TEAMS, OTHER_TEAM, Role
from embedpool_shared.telemetry.exporter import is_token
from embedpool_shared.telemetry.first_names import FirstNames
from embedpool_shared.telemetry.heartbeat import beat
from embedpool_shared.telemetry.journal import journal
from embedpool_shared.telemetry.meters import Meters
from embedpool_shared.telemetry.outlet import Outlet
from embedpool_shared.telemetry.pool_gauges import models_in
from embedpool_shared.telemetry.spans import Tracing
from embedpool_shared.telemetry.target import target
from embedpool_shared.telemetry.tracing import tracing

SERVICE = "embedpool-api"


@dataclass(slots=True, eq=False)
class Watched:
    """The watching parts of one process."""

    witness: Witness
    outlet: Outlet
    tracing: Tracing | None = None
    _declared: Catalog | None = field(default=None, repr=False)

    def metrics_parts(
        self, config: Config, identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]]
    ) -> MetricsParts | None:
        """Describe the route for Prometheus; None where the numbers are nowhere."""
        if self.outlet.directory is None:
            return None
        return MetricsParts(
            target=target(Role.API, config, self.outlet.directory),
            identify=identify,
            is_token=partial(is_token, config.metrics),
            has_master_key=config.master_key is not None,
        )

    async def beat(self, observer: Observer) -> None:
        """Carry out what `observer` and the witness know, for ever."""
        await beat(self.witness.metrics.lag_s, partial(self._carry_out, observer))

    def close(self) -> None:
        """Show the last numbers, tell the last traces."""
        self.outlet.close()
        if self.tracing is not None:
            self.tracing.close()

    def _carry_out(self, observer: Observer) -> None:
        metrics = self.witness.metrics
        metrics.redis_up.set(not observer.is_redis_away)
        if observer.catalog is not self._declared:
            self._declared = observer.catalog
            metrics.declare(models_in(observer.catalog))
        self.outlet.carry_out()


def watch(
    config: Config, environ: Mapping[str, str], directory: Path | None, *, version: str
) -> Watched:
    """Begin to watch over this process."""
    meters = Meters()
    names = directory / "teams" if directory else None
    teams = FirstNames(names, most=MAX_TEAMS, rest=OTHER_TEAM)
    metrics = ApiMetrics(meters, teams, has_cache=config.cache_ttl_s > 0, version=version)
    told = tracing(environ, SERVICE)
    witness = Witness(
        metrics=metrics,
        log=RequestLog(journal()),
        slow_request_s=config.metrics.slow_request_s,
        traces=RequestTraces(told) if told else None,
    )
    outlet = Outlet(meters, directory)
    metrics.redis_up.set(1)
    outlet.carry_out()
    return Watched(witness, outlet, told)
