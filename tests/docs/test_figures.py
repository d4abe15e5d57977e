"""The figures of docs/ are drawn from what results/verdicts.json holds, and show what the page says of them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks import verdicts
from parity.running.judgement import FACTOR

RESULTS = json.loads(verdicts.RESULTS.read_text())
PAGE = (verdicts.FIGURES.parent / "explanation.md").read_text()


@pytest.mark.parametrize("name", ["stages", "precision", "envelope"])
def test_a_figure_is_of_these_results(name):
    assert verdicts.digest() in (verdicts.FIGURES / f"{name}.svg").read_text()
    assert f"figures/{name}.svg" in PAGE


def test_the_results_are_drawn():
    figures = verdicts.draw(RESULTS)
    assert figures.keys() == {"stages", "precision", "envelope"}
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
        (axes,) = figure.axes
        assert axes.get_ylabel()
        assert axes.get_legend()
    pair = next(line for line in figures["envelope"].axes[0].lines if line.get_label() == "torch_impl and jax_impl")
    np.testing.assert_array_equal(pair.get_ydata(), RESULTS["run"]["gaps"])


def test_the_pictures_are_those_of_the_tutorial():
    figure = verdicts.images()
    drawn = [axes.get_title() for axes in figure.axes]
    assert len(drawn) == 16
    assert set(drawn) <= set(verdicts.load_data("embedded").classes)


def test_honest_programs_are_far_below_what_is_allowed_and_faults_far_above():
    rows = {row["stage"]: row for row in RESULTS["float64"]}
    assert all(row["difference"] < row["allowed"] / 50 for row in rows.values())
    assert {fault["stage"] for fault in RESULTS["faults"]} == {"momentum", "update"}
    assert all(fault["difference"] > 1000 * rows[fault["stage"]]["allowed"] for fault in RESULTS["faults"])


def test_low_precision_shows_in_gradients():
    (row,) = (row for row in RESULTS["float32"] if row["stage"] == "gradients")
    assert max(row["torch_impl"], row["jax_impl"]) < row["floor"] < row["bfloat16"] / 100


def test_the_pair_is_inside():
    run = RESULTS["run"]
    np.testing.assert_allclose(run["limits"], FACTOR * np.maximum.accumulate(np.max(run["members"], axis=1)))
    assert all(gap <= limit for gap, limit in zip(run["gaps"], run["limits"], strict=True))
    assert 0 < run["horizon"] < run["steps"][-1]


def test_the_page_quotes_the_results():
    packages = RESULTS["environment"]["packages"]
    quoted = re.search(r"torch ([\d.]+), jax ([\d.]+), the CNN on the embedded images", PAGE.replace("\n", " "))
    assert quoted
    assert quoted.groups() == (packages["torch"], packages["jax"])
