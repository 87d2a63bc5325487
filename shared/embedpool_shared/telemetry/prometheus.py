"""The only border to prometheus-client: its multi-process files written, merged and put into words.

Whoever writes does so a few times a second, not with every count: a value in a file costs a hundred
times what it costs in memory. What a killed process counted since its last writing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.mmap_dict import MmapedDict as UntypedDict
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.utils import floatToGoString

from embedpool_shared.measures import Combine, Kind, Measure, measure
from embedpool_shared.telemetry.meters import Instrument, Meters, Spread

MmapedDict: Any = UntypedDict
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
MODE_OF: Final = {Combine.SUM: "livesum", Combine.MAX: "livemax", Combine.MIN: "livemin"}
"""A process' gauges count while it lives."""
LAST_EDGE: Final = "+Inf"


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
        for measured, labels, instrument in meters.made[len(self._cells) :]:
            self._cells.append(_Cells(self._file(measured), measured, labels, instrument))
        for cells in self._cells:
            cells.write()

    def close(self) -> None:
        """Let go of the files; they stay."""
        for file in self._files.values():
            file.close()

    def _file(self, measured: Measure) -> Any:
        is_gauge = measured.kind is Kind.GAUGE
        name = f"gauge_{MODE_OF[measured.combine]}" if is_gauge else measured.kind.value
        file = self._files.get(name)
        if file is None:
            path = self._directory / f"{name}_{self._slot}.db"
            file = self._files[name] = MmapedDict(str(path))
        return file


class _Cells:
    """Where the numbers of one instrument stand in a file."""

    __slots__ = ("_base", "_file", "_instrument", "_is_spread", "_keys", "_last")

    def __init__(
        self, file: Any, measured: Measure, labels: Sequence[str], instrument: Instrument
    ) -> None:
        self._file = file
        self._instrument: Any = instrument
        self._is_spread = isinstance(instrument, Spread)
        self._keys = _keys(measured, labels)
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


def _keys(measured: Measure, labels: Sequence[str]) -> list[str]:
    name, names = measured.name, list(measured.label_names)

    def key(series: str, further: Sequence[str] = (), values: Sequence[str] = ()) -> str:
        return mmap_key(name, series, [*names, *further], [*labels, *values], "")

    if measured.kind is not Kind.HISTOGRAM:
        return [key(name)]
    edges = [*map(floatToGoString, measured.buckets), LAST_EDGE]
    return [*(key(f"{name}_bucket", ["le"], [edge]) for edge in edges), key(f"{name}_sum")]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a number in a file is: a series of a metric, and its labels."""

    measure: Measure
    series: str
    labels: Mapping[str, str]


def cell_of(key: str) -> Cell:
    """Say what the number under this key is."""
    name, series, labels, _ = json.loads(key)
    return Cell(measure(name.removeprefix("embedpool_")), series, labels)


def values_in(path: Path) -> Iterator[tuple[str, float]]:
    """Read the numbers of a file; those of an instrument follow each other. None if it is gone."""
    try:
        values = MmapedDict.read_all_values_from_file(path)
    except FileNotFoundError:
        return
    for key, value, _, _ in values:
        yield key, value
