"""Every question the dashboards ask, as Grafana would send it with nothing chosen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from support.processes import ROOT

FOLDER: Final = ROOT / "grafana" / "dashboards"
EVERYTHING: Final = ".*"
DURATIONS: Final = {"$__rate_interval": "1m", "$__range": "1h"}
"""What Grafana makes of them for an hour shown and a scrape every 15 s."""


@dataclass(frozen=True, slots=True)
class Question:
    """One query of a panel, a variable or an annotation."""

    board: str
    asker: str
    expr: str

    @property
    def where(self) -> str:
        """Say where it is, for people."""
        return f"{self.board}: {self.asker}"


def tree_of(board: str) -> dict[str, Any]:
    """Read a dashboard."""
    tree: dict[str, Any] = json.loads((FOLDER / f"{board}.json").read_text("utf-8"))
    return tree


def panel_of(board: str, title: str) -> dict[str, Any]:
    """Find the panel of that title."""
    (panel,) = [panel for panel in tree_of(board)["panels"] if panel["title"] == title]
    found: dict[str, Any] = panel
    return found


def sent(expr: str, chosen: Mapping[str, str] | None = None) -> str:
    """Put the variables' values into an expression; whatever is not chosen is everything."""
    for name, duration in DURATIONS.items():
        expr = expr.replace(name, duration)
    values = chosen or {}
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], EVERYTHING), expr)


def questions() -> list[Question]:
    """List what every board asks for."""
    boards = sorted(path.stem for path in FOLDER.glob("*.json"))
    return [question for board in boards for question in _asked(board)]


def _asked(board: str) -> list[Question]:
    tree = tree_of(board)
    of_panels = [
        Question(board, panel["title"], target["expr"])
        for panel in tree["panels"]
        for target in panel.get("targets", ())
    ]
    marks = tree["annotations"]["list"]
    return of_panels + [Question(board, mark["name"], mark["expr"]) for mark in marks]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a variable offers: the values of a label of some series."""

    board: str
    label: str
    series: str


def offers() -> list[Offer]:
    """List the variables that ask Prometheus."""
    return [
        Offer(path.stem, found[2], found[1])
        for path in sorted(FOLDER.glob("*.json"))
        for variable in tree_of(path.stem)["templating"]["list"]
        if (found := _label_values(variable))
    ]


def _label_values(variable: Mapping[str, Any]) -> re.Match[str] | None:
    if variable["type"] != "query":
        return None
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found, variable
    return found
