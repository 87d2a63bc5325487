"""`python -m embedpool_grafana`: write the dashboards and docs/metrics.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from embedpool_grafana.boards import Board, as_json
from embedpool_grafana.bulk import BULK
from embedpool_grafana.keys_and_spend import KEYS_AND_SPEND
from embedpool_grafana.overview import OVERVIEW
from embedpool_grafana.reference import reference_page

ROOT: Final = Path(__file__).parents[2]
BOARDS: Final[tuple[Board, ...]] = (OVERVIEW, KEYS_AND_SPEND, BULK)


def texts() -> dict[Path, str]:
    """Say what each generated file should hold."""
    folder = ROOT / "grafana" / "dashboards"
    dashboards = {folder / f"{board.uid}.json": as_json(board, BOARDS) for board in BOARDS}
    return {**dashboards, ROOT / "docs" / "metrics.md": reference_page()}


def main() -> None:
    """Write them all."""
    for path, text in texts().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
