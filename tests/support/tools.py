"""Programs that not every machine has: a laptop skips what needs them, CI must have them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def tool(name: str, *, package: str) -> Path:
    """Find a program; without it the test is skipped, and fails where CI is set.

    `EMBEDPOOL_TEST_<NAME>` may say where it is.
    """
    variable = "EMBEDPOOL_TEST_" + name.upper().replace("-", "_")
    found = os.environ.get(variable) or shutil.which(name)
    if found is not None:
        return Path(found)
    reason = f"no {name} here; Debian has it in the package {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
