"""The line that says which machine the figures are from."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from statistics import median
from typing import Final

_SAMPLES: Final = 60
_SOMETHING: Final = {"data": [{"index": n, "embedding": [n / 7] * 8} for n in range(6)]}


def machine_line() -> str:
    """Describe processor, cores, kernel, interpreter and what else was running."""
    load = os.getloadavg()[0]
    return (
        f"{_processor()} · {os.cpu_count()} cores · Linux {platform.release()} · "
        f"Python {platform.python_version()} · load average before: {load:.2f}"
    )


def price_of_a_pause(pause_s: float) -> float:
    """How many times as long the same code takes after a pause as it does right after itself.

    It says what the machine does to any program that waits: cores sleep, others use the caches.
    """
    after, at_once = [], []
    for _ in range(_SAMPLES):
        time.sleep(pause_s)
        after.append(_a_little_work_s())
        at_once.append(_a_little_work_s())
    return median(after) / median(at_once)


def _a_little_work_s() -> float:
    began_at = time.perf_counter()
    json.loads(json.dumps(_SOMETHING))
    return time.perf_counter() - began_at


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
