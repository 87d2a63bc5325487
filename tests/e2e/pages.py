"""The pages of `docs`, and the programs that they show."""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from support.processes import ROOT

DEFAULT_URL: Final = "http://127.0.0.1:4000"
SHOWN_KEY: Final = "sk-ep-..."
_PYTHON: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs(page: str) -> list[str]:
    """Read every Python program of a page, in the order in which it shows them."""
    return _PYTHON.findall((ROOT / "docs" / page).read_text())


def program(page: str, part: str) -> str:
    """Read the one Python program of a page that has this in it."""
    (found,) = (one for one in programs(page) if part in one)
    return found


def ran(shown: str, folder: Path, *, url: str, key: str) -> Mapping[str, Any]:
    """Run what a page shows, for this pool and this key; return the names it defined."""
    assert DEFAULT_URL in shown
    assert SHOWN_KEY in shown
    file = folder / "shown.py"
    file.write_text(shown.replace(DEFAULT_URL, url).replace(SHOWN_KEY, key))
    return runpy.run_path(str(file))
