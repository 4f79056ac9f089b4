"""What `import pilotis` costs: at most 1.4 times `import asyncio`, each in fresh processes, medians of the same run.

The face of Pilotis is lazy, so what it takes to have the app at hand is measured as well, and printed without a bound.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 15
LARGEST = 1.4
MEASURE = "import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
OURS = "import pilotis"
THEIRS = "import asyncio"
APP = "from pilotis import Pilotis; Pilotis"


def seconds(statement: str) -> float:
    """Return how long a statement takes in a process of its own."""
    code = MEASURE.format(statement=statement)
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Return 0 if the ratio is within its bound."""
    statements = (OURS, THEIRS, APP)
    for statement in statements:
        seconds(statement)  # once unmeasured, for the bytecode and the file cache
    rounds = [[seconds(statement) for statement in statements] for _ in range(ROUNDS)]
    ours, theirs, app = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"{OURS}: {ours * 1e3:.1f} ms, {ours / theirs:.2f} times {THEIRS} (at most {LARGEST})")
    print(f"{APP}: {app * 1e3:.1f} ms, {app / theirs:.2f} times {THEIRS}")
    return 0 if ours <= LARGEST * theirs else 1


if __name__ == "__main__":
    sys.exit(main())
