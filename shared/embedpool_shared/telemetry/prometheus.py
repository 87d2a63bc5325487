"""The only border to prometheus-client: its multi-process files written, merged and put into words.

Whoever writes does so a few times a second, not with every count: a value in a file costs a hundred
times what it costs in memory. What a killed process counted since its last writing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict as UntypedDict
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.multiprocess import MultiProcessCollector as UntypedCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from typing_extensions import override

from embedpool_shared.measures import Combine, Kind, Measure
from embedpool_shared.telemetry.meters import Instrument, Meters, Spread

MmapedDict: Any = UntypedDict
MultiProcessCollector: Any = UntypedCollector
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
MODE_OF: Final = {Combine.SUM: "livesum", Combine.MAX: "livemax", Combine.MIN: "livemin"}
"""A process' gauges count while it lives."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a gauge that is read when somebody asks for it."""

    measure: Measure
    labels: tuple[str, ...]
    value: float


class SeriesFiles:
    """Owns the files of one slot."""

    def __init__(self, directory: Path, slot: int) -> None:
        """Go on with the counters of who had the slot before; its gauges ended with it."""
        self._directory = directory
        self._slot = slot
        self._files: dict[str, Any] = {}
        self._cells: list[_Cells] = []  # one for each instrument, in their order
        for left in directory.glob(f"gauge_*_{slot}.db"):
            left.unlink()

    def write(self, meters: Meters) -> None:
        """Write whatever has changed since the last time."""
        for measure, labels, instrument in meters.made[len(self._cells) :]:
            self._cells.append(_Cells(self._file(measure), measure, labels, instrument))
        for cells in self._cells:
            cells.write()

    def close(self) -> None:
        """Let go of the files; they stay."""
        for file in self._files.values():
            file.close()

    def _file(self, measure: Measure) -> Any:
        is_gauge = measure.kind is Kind.GAUGE
        name = f"gauge_{MODE_OF[measure.combine]}" if is_gauge else measure.kind.value
        file = self._files.get(name)
        if file is None:
            path = self._directory / f"{name}_{self._slot}.db"
            file = self._files[name] = MmapedDict(str(path))
        return file


class _Cells:
    """Where the numbers of one instrument stand in a file."""

    __slots__ = ("_base", "_file", "_instrument", "_is_spread", "_keys", "_last")

    def __init__(
        self, file: Any, measure: Measure, labels: Sequence[str], instrument: Instrument
    ) -> None:
        self._file = file
        self._instrument: Any = instrument
        self._is_spread = isinstance(instrument, Spread)
        self._keys = _keys(measure, labels)
        self._base = [file.read_value(key)[0] for key in self._keys]
        self._last: list[float] = [0] * (len(self._keys) - 1) if self._is_spread else [0.0]

    def write(self) -> None:
        instrument = self._instrument
        if self._is_spread:
            if self._last != instrument.counts:
                self._put(instrument.counts)
                self._file.write_value(self._keys[-1], self._base[-1] + instrument.total, 0.0)
        elif self._last[0] != instrument.value:
            self._put([instrument.value])

    def _put(self, values: list[float]) -> None:
        for at, value in enumerate(values):
            if value != self._last[at]:
                self._file.write_value(self._keys[at], self._base[at] + value, 0.0)
        self._last = values.copy()


def _keys(measure: Measure, labels: Sequence[str]) -> list[str]:
    names = list(measure.label_names)

    def key(name: str, further: Sequence[str] = (), values: Sequence[str] = ()) -> str:
        family = measure.name.removesuffix("_total")
        return mmap_key(family, name, [*names, *further], [*labels, *values], measure.help)

    if measure.kind is not Kind.HISTOGRAM:
        return [key(measure.name)]
    edges = [*map(floatToGoString, measure.buckets), "+Inf"]
    buckets = [key(f"{measure.name}_bucket", ["le"], [edge]) for edge in edges]
    return [*buckets, key(f"{measure.name}_sum")]


def exposition(directory: Path, living: Iterable[int], readings: Iterable[Reading]) -> bytes:
    """Put into words what all processes of a role counted, and what was read just now."""
    gone = "gauge_"
    gauges = [path for slot in living for path in directory.glob(f"gauge_*_{slot}.db")]
    others = [path for path in directory.glob("*.db") if not path.name.startswith(gone)]
    merged = MultiProcessCollector.merge([str(path) for path in (*others, *gauges)])
    shown: list[Metric] = [*merged, *_families(readings)]
    return generate_latest(cast("CollectorRegistry", _Shown(shown)))


def _families(readings: Iterable[Reading]) -> Iterable[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    for reading in readings:
        measure = reading.measure
        family = families.get(measure.name)
        if family is None:
            labels: Any = measure.label_names
            family = GaugeMetricFamily(measure.name, measure.help, labels=labels)
            families[measure.name] = family
        family.add_metric(reading.labels, reading.value)
    return families.values()


class _Shown(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = sorted(metrics, key=lambda metric: metric.name)

    @override
    def collect(self) -> Iterable[Metric]:
        return self._metrics
