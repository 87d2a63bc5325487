"""The files made from the table of metrics, and what each should hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from embedpool_grafana.boards import Board, as_json
from embedpool_grafana.bulk import BULK
from embedpool_grafana.keys_and_spend import KEYS_AND_SPEND
from embedpool_grafana.overview import OVERVIEW
from embedpool_grafana.reference import with_tables

ROOT: Final = Path(__file__).parents[2]
BOARDS: Final[tuple[Board, ...]] = (OVERVIEW, KEYS_AND_SPEND, BULK)


def texts() -> dict[Path, str]:
    """Make the text of every file."""
    folder = ROOT / "grafana" / "dashboards"
    dashboards = {folder / f"{board.uid}.json": as_json(board, BOARDS) for board in BOARDS}
    page = ROOT / "docs" / "metrics.md"
    return {**dashboards, page: with_tables(page.read_text("utf-8"))}
