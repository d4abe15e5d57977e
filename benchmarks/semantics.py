"""Measures every number in docs/semantics.md, keeps them in results/semantics.json, and writes them into the page.

    python -m benchmarks.semantics           # measures all, a minute
    python -m benchmarks.semantics --page    # only writes what is in the file of results into the page

In the page, `1.0e-15<!-- name -->` is the number or the row of that name, `23%<!-- name: .0% -->` the same in another
format, and what stands between `<!-- table: name -->` and `<!-- /table -->` is a table of results.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.semantics_counts import count_rows
from benchmarks.semantics_optax import TABLES
from benchmarks.semantics_traps import alike_rows, defaults, measurements
from parity.data import replacing
from parity.environment import describe_environment

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "results" / "semantics.json", ROOT / "docs" / "semantics.md"
FORMAT = "parity.semantics/1"

Row = Mapping[str, Any]

NUMBER = re.compile(r"[\d.,e+%-]+<!-- (?P<name>[\w-]+)(?:: (?P<format>\S+))? -->")
TABLE = re.compile(r"(?P<begin><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- /table -->)", re.DOTALL)


def measure() -> dict[str, Any]:
    """Everything that the page states."""
    return {
        "format": FORMAT,
        "environment": asdict(describe_environment()),
        "values": {name: take() for name, take in measurements().items()},
        "tables": {name: [row.measure() for row in rows] for name, rows in TABLES.items()}
        | {"counts": count_rows(), "alike": alike_rows()},
        "defaults": defaults(),
    }


def fill(page: str, results: Mapping[str, Any]) -> str:
    """The page with these results in it.

    Raises:
        KeyError: it names a number or a table that there is not.
    """
    tables = {**dict.fromkeys(TABLES, _pairs), "counts": _counts, "alike": _alike}
    rows = {row["key"]: row["difference"] for name in TABLES for row in results["tables"][name]}
    values = {**results["values"], **rows}

    def number(match: re.Match[str]) -> str:
        value = values[match["name"]]
        text = format(value, match["format"]) if match["format"] else _size(value)
        return text + match[0][match[0].index("<!--") :]

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name == "environment":
            lines = _environment(results["environment"])
        elif name == "defaults":
            lines = _grid(["setting", "value"], [[f"`{key}`", f"`{value}`"] for key, value in results[name].items()])
        else:
            lines = tables[name](results["tables"][name])
        return match["begin"] + "\n".join(lines) + "\n" + match["end"]

    return NUMBER.sub(number, TABLE.sub(table, page))


def _size(value: float) -> str:
    """Two digits, as a power of ten where it is small."""
    if value >= 1:
        return f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{value:.2g}" if value == 0 or value >= 0.01 else f"{value:.1e}"


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows]]


def _code(text: str) -> str:
    """Code, and the words after its #; a bar would end the cell."""
    code, _, words = text.replace("|", "\\|").partition("  # ")
    return f"`{code}`{', ' + words if words else ''}"


def _pairs(rows: Sequence[Row]) -> list[str]:
    cells = [[_code(row["torch"]), _code(row["optax"]), _verdict(row), _size(row["difference"])] for row in rows]
    return _grid(["torch", "optax", "same?", "difference"], cells)


def _verdict(row: Row) -> str:
    return "yes" if row["same"] else "**no**"


def _counts(rows: Sequence[Row]) -> list[str]:
    cells = [[f"`{row['schedule']}`", _size(row["int32"]), _size(row["float64"])] for row in rows]
    return _grid(["optax", "int32 count", "float64 count"], cells)


def _alike(rows: Sequence[Row]) -> list[str]:
    cells = [[row["one"].replace("|", "\\|"), row["other"], row["apart"], _size(row["difference"])] for row in rows]
    return _grid(["this", "and this", "what tells them apart", "difference"], cells)


def _environment(environment: Mapping[str, Any]) -> list[str]:
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "jax", "optax", "numpy"))
    machine = f"{environment['processor']}, {environment['cores']} cores, {environment['system']}"
    return [f"Measured with {versions}, Python {environment['python']},", f"on the CPU: {machine}."]


def write(path: Path, text: str) -> None:
    """In one piece or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def main() -> None:
    """Measure unless told not to; then the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="only write the results that there are into the page")
    if not parser.parse_args().page:
        write(RESULTS, json.dumps(measure(), indent=1, allow_nan=False) + "\n")
        print(f"wrote {RESULTS}")
    write(PAGE, fill(PAGE.read_text(), json.loads(RESULTS.read_text())))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
