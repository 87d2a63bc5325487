"""How fast the pool is, and what of that is the machine's doing.

The benchmarks use the tests' fake provider and process handling, which live in `tests/support`.
"""

import sys
from pathlib import Path

SUPPORT = str(Path(__file__).resolve().parents[1] / "tests")
sys.path.insert(0, SUPPORT)
