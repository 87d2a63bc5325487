"""The line that says which machine the figures are from."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_line() -> str:
    """Describe processor, cores, kernel, interpreter and what else was running."""
    load = os.getloadavg()[0]
    return (
        f"{_processor()} · {os.cpu_count()} cores · Linux {platform.release()} · "
        f"Python {platform.python_version()} · load average before: {load:.2f}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
