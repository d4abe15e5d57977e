"""docs/semantics.md says what results/semantics.json holds, and that is what the programs do."""

from __future__ import annotations

import copy
import json
import re

import pytest

from benchmarks import semantics
from benchmarks.semantics_optax import EXACT, TABLES
from benchmarks.semantics_traps import measurements

RESULTS = json.loads(semantics.RESULTS.read_text())
PAGE = semantics.PAGE.read_text()
ROWS = [row for rows in TABLES.values() for row in rows]
KEPT = {entry["key"]: entry for name in TABLES for entry in RESULTS["tables"][name]}


def test_the_page_holds_the_results():
    assert semantics.fill(PAGE, RESULTS) == PAGE


def test_another_result_would_be_another_page():
    changed = copy.deepcopy(RESULTS)
    changed["values"]["keras-step"] *= 2
    assert semantics.fill(PAGE, changed) != PAGE
    changed = copy.deepcopy(RESULTS)
    changed["tables"]["wrong"][0]["difference"] *= 2
    assert semantics.fill(PAGE, changed) != PAGE


def test_a_number_without_a_result_is_refused():
    with pytest.raises(KeyError, match="no-such"):
        semantics.fill("0.1<!-- no-such -->", RESULTS)


def test_every_table_is_on_the_page():
    shown = {match["name"] for match in semantics.TABLE.finditer(PAGE)}
    assert shown == {*RESULTS["tables"], "environment", "defaults"}


def test_no_size_is_written_by_hand():
    """What looks like a measured size, outside code, stands before a marker or in a table of results."""
    text = semantics.NUMBER.sub("", semantics.TABLE.sub("", PAGE))
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    assert set(re.findall(r"\d+(?:\.\d+)?e[+-]?\d+|(?<![\d.])0\.\d{2,}", text)) <= ROUND


ROUND = {"1e-15", "1e-6", "1e-8", "5e-3", "0.05", "0.001"}
"""Orders of magnitude, and what is given and not measured: torch's epsilon, arguments, an example."""


def test_every_link_inside_leads_somewhere():
    heads = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"^## (.*)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= heads
    for path in re.findall(r"\]\(\.\./([\w./]+)\)", PAGE):
        assert (semantics.ROOT / path).is_file(), path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_kept_rows_say_what_they_should(row):
    kept = KEPT[row.key]
    assert (kept["torch"], kept["optax"], kept["same"]) == (row.torch, row.optax, row.same)
    # The least of what is not the same is float32's rounding of a rate.
    assert kept["difference"] < EXACT if row.same else kept["difference"] > 1e-9


AGAIN = ("momentum", "dampening-decay", "wrong-decay-after-trace", "linear", "clip-norm", "clip-norm-optax")


@pytest.mark.parametrize("row", [row for row in ROWS if row.key in AGAIN], ids=lambda row: row.key)
def test_rows_are_measured_again(row):
    found = row.measure()["difference"]
    if row.same:
        assert found < EXACT
    else:  # a float32 rate may be rounded otherwise elsewhere: by half an ulp of a rate
        assert found == pytest.approx(KEPT[row.key]["difference"], rel=1e-6, abs=EXACT if found > 1e-6 else 1e-7)


@pytest.mark.parametrize("name", ["keras-step", "scaled", "decoupled", "unfrozen-late-dampened", "zero-gradient-moves"])
def test_traps_are_measured_again(name):
    assert measurements()[name]() == pytest.approx(RESULTS["values"][name], rel=1e-9)


@pytest.mark.parametrize("name", ["keras-constant", "averaged-rescaled", "decoupled-no-momentum"])
def test_what_is_alike_still_is(name):
    assert measurements()[name]() < EXACT
