"""Train both sides on real images for several seeds, and write down what they reach: one JSON file of results.

    python benchmarks/accuracy.py --data cifar10 --out results/accuracy.json

For each seed it runs `parity run` for long enough to see the target accuracy, and keeps that run's report as the
command line wrote it. `table` makes the README's table from the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from parity.data import replacing

TARGET = 0.62
TABLE_EPOCH = 3


def run_report(*options: str) -> dict[str, Any]:
    """What `parity run` with these options reports, as the command line writes it; its page is written too."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        files = ["--json", str(report), "--report", str(report.with_suffix(".html"))]
        subprocess.run([sys.executable, "-m", "parity", "run", *options, *files], check=True)  # noqa: S603
        result: dict[str, Any] = json.loads(report.read_text())
    return result


def measure(data: str, seed: int, epochs: int) -> dict[str, Any]:
    """One run of both sides, without an ensemble, since accuracies are wanted and not a verdict; its report."""
    return run_report("--data", data, "--seed", str(seed), "--epochs", str(epochs), "--ensemble", "0")


def first_epoch_at(report: dict[str, Any], side: int, target: float) -> str:
    """The first epoch after which the side's accuracy is at least the target; otherwise the best epoch."""
    for epoch in report["epochs"]:
        if epoch["accuracies"][side] >= target:
            return str(epoch["epoch"])
    best = max(report["epochs"], key=lambda epoch: epoch["accuracies"][side])
    return f"none of {len(report['epochs'])} (best {100 * best['accuracies'][side]:.1f}, epoch {best['epoch']})"


def table(reports: list[dict[str, Any]]) -> str:
    """A Markdown table: a column for each side and seed."""
    columns = [(report, side) for report in reports for side in range(len(report["sides"]))]
    heads = [f"{report['sides'][side]['name']}, seed {report['settings']['seed']}" for report, side in columns]
    epochs = [report["epochs"][TABLE_EPOCH - 1] for report, _ in columns]
    rows = [["all classes", *(f"{100 * e['accuracies'][s]:.1f}" for e, (_, s) in zip(epochs, columns, strict=True))]]
    for label, name in enumerate(reports[0]["data"]["classes"]):
        shares = (e["accuracies_per_class"][s][label] for e, (_, s) in zip(epochs, columns, strict=True))
        rows.append([name, *(f"{100 * share:.1f}" for share in shares)])
    rows.append([f"first epoch at {TARGET:.0%}", *(first_epoch_at(r, s, TARGET) for r, s in columns)])
    lines = [["%, on the test set", *heads], ["---"] * (len(heads) + 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, write, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/accuracy.json"))
    parser.add_argument("--table", type=Path, metavar="FILE", help="only print the table of this file of results")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())["reports"]))
        return
    if arguments.epochs < TABLE_EPOCH:
        parser.error(f"--epochs {arguments.epochs}: the table needs {TABLE_EPOCH}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    reports: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        reports.append(measure(arguments.data, seed, arguments.epochs))
        # After each seed: hours of training are not lost to a later failure.
        with replacing(arguments.out) as temporary:
            temporary.write_text(json.dumps({"reports": reports}, indent=1) + "\n")
    print(table(reports))
    accuracies = [e["accuracies"] for report in reports for e in report["epochs"] if e["epoch"] == TABLE_EPOCH]
    print("mean after 3 epochs:", *(f"{100 * mean(side):.2f} %" for side in zip(*accuracies, strict=True)))


if __name__ == "__main__":
    main()
