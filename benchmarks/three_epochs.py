"""Time the tutorial's three epochs on both sides with the verdict, as a command from its start to its end.

    python -m benchmarks.three_epochs --data cifar10 --out results/three_epochs.json

Imports, compiling, the ensemble that the verdict judges by, and the page are all in it. The file holds the seconds, and
of that run's own report the verdict, versions and hardware.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy import run_report
from parity.data import replacing

LIMIT = 180.0
"""Seconds on two cores."""
KEPT = ("environment", "data", "settings", "device", "steps", "sides", "epochs", "verdict", "comparison", "ending")
"""Of the run's report; the losses of every window and what the ensemble allows at each step are not about time."""


def measure(data: str) -> dict[str, Any]:
    """One run: its seconds, the load before it, and what is kept of its report."""
    load, begin = os.getloadavg()[0], time.perf_counter()
    report = run_report("--data", data, "--epochs", "3")
    seconds = time.perf_counter() - begin
    kept = {name: report[name] for name in KEPT}
    return {"seconds": round(seconds, 1), "limit": LIMIT, "load_before": round(load, 2), "report": kept}


def main() -> None:
    """Measure, write, say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--out", type=Path, default=Path("results/three_epochs.json"))
    arguments = parser.parse_args()
    measured = measure(arguments.data)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(arguments.out) as temporary:
        temporary.write_text(json.dumps(measured, indent=1) + "\n")
    print(f"{measured['seconds']} s, {'within' if measured['seconds'] <= LIMIT else 'OVER'} {LIMIT:g}")


if __name__ == "__main__":
    main()
