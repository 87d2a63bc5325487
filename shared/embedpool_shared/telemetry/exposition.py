"""What all processes of a role counted, put into the words that Prometheus reads.

How a series is written never changes, so it is worked out once and remembered: each later scrape
adds up numbers and puts them behind their series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedpool_shared.measures import Combine, Measure
from embedpool_shared.telemetry.prometheus import LAST_EDGE, Cell, cell_of, values_in

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a gauge that is read when somebody asks for it."""

    measure: Measure
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class _Line:
    """How a number of the files is written."""

    family: str
    start: str  # up to the value
    combine: Combine
    count: str  # of a histogram's bucket: the start of its instrument's line of that name
    is_last: bool  # of the buckets


class Exposition:
    """The target of a role, as text."""

    def __init__(self, directory: Path) -> None:
        """Read what the processes of the role leave in `directory`."""
        self._directory = directory
        self._lines: dict[str, _Line] = {}
        self._heads: dict[str, str] = {}
        self._starts: dict[tuple[str, tuple[str, ...]], str] = {}

    def text(self, living: Iterable[int], readings: Iterable[Reading]) -> bytes:
        """Say what was counted so far, what living processes measure, and what was just read."""
        families: dict[str, list[str]] = {}
        for family, line in self._counted(self._totals(living)):
            families.setdefault(family, []).append(line)
        for reading in readings:
            start = self._starts.get((reading.measure.name, reading.labels)) or self._begun(reading)
            families.setdefault(reading.measure.name, []).append(f"{start}{reading.value!r}\n")
        return "".join(self._heads[it] + "".join(families[it]) for it in sorted(families)).encode()

    def _counted(self, totals: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        below: dict[str, float] = {}
        for key, value in totals.items():
            line, shown = self._lines[key], value
            if line.count:
                # The files say how many fell between two edges, and have the lowest edge first.
                shown = below[line.count] = below.get(line.count, 0.0) + value
            yield line.family, f"{line.start}{shown!r}\n"
            if line.is_last:
                yield line.family, f"{line.count}{shown!r}\n"

    def _totals(self, living: Iterable[int]) -> dict[str, float]:
        totals: dict[str, float] = {}
        for path in self._files(living):
            for key, value in values_in(path):
                if key not in self._lines:
                    self._lines[key] = self._line(cell_of(key))
                before = totals.get(key)
                totals[key] = value if before is None else self._combined(key, before, value)
        return totals

    def _combined(self, key: str, one: float, other: float) -> float:
        match self._lines[key].combine:
            case Combine.MAX:
                return max(one, other)
            case Combine.MIN:
                return min(one, other)
            case _:
                return one + other

    def _files(self, living: Iterable[int]) -> list[Path]:
        gauges = [path for slot in living for path in self._directory.glob(f"gauge_*_{slot}.db")]
        others = (path for path in self._directory.glob("*.db"))
        return [*(path for path in others if not path.name.startswith("gauge_")), *gauges]

    def _line(self, cell: Cell) -> _Line:
        family = self._headed(cell.measure)
        edge = cell.labels.get("le", "")
        rest = {name: value for name, value in cell.labels.items() if name != "le"}
        return _Line(
            family=family,
            start=_start(cell.series, cell.labels),
            combine=cell.measure.combine,
            count=_start(f"{family}_count", rest) if edge else "",
            is_last=edge == LAST_EDGE,
        )

    def _begun(self, reading: Reading) -> str:
        """Remember how the line of a reading starts."""
        family = self._headed(reading.measure)
        labels = dict(zip(reading.measure.label_names, reading.labels, strict=True))
        start = self._starts[family, reading.labels] = _start(family, labels)
        return start

    def _headed(self, measure: Measure) -> str:
        """Remember what stands above a family; return its name."""
        name = measure.name
        if name not in self._heads:
            self._heads[name] = f"# HELP {name} {measure.help}\n# TYPE {name} {measure.kind}\n"
        return name


def _start(series: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{series}{{{inner}}} " if inner else f"{series} "
