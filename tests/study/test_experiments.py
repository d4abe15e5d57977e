"""What the experiments show, and that every figure can be read alone."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from parity.contract import SGD, InputError, StepLR
from parity.data import Dataset
from parity.render.figure import csv_text, draw, files_of, json_text, table_lines
from parity.study import EXPERIMENTS, Bench, Table, experiments_named
from parity.study import batch as batch_module
from parity.study.arguments import CNN_CHANGES, CNN_QUICK_STEPS, PLANES, stated
from parity.study.dampening import RULES, response
from parity.study.schedules import kinds, rate_taken
from tests import fakes

PLAIN = [name for name, experiment in EXPERIMENTS.items() if not experiment.trains]


@pytest.fixture(scope="module")
def outcomes(small):
    """All in quick form; the CNN's on random images, by fakes and the oracle."""
    bench = Bench(dataset=small, quick=True, names=("parity.oracle", "parity.oracle"))
    faked = Bench(dataset=small, quick=True, names=("tests.fakes:honest", "tests.fakes:honest"))
    return {name: experiment.run(bench if name == "schedules" else faked) for name, experiment in EXPERIMENTS.items()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_figure_says_what_it_shows(outcomes, name):
    outcome = outcomes[name]
    assert outcome.table.rows
    assert {len(row) for row in outcome.table.rows} == {len(outcome.table.columns)}
    for figure in outcome.figures:
        assert figure.caption.endswith(".")
        assert len(figure.caption) > 200
        assert "nan" not in figure.caption
        assert any(panel.legend for panel in figure.panels)
        for panel in figure.panels:
            assert panel.title
            assert "(" in panel.x_label + panel.y_label  # a unit
            assert panel.curves
            # The batches' twins are one program here: their distance is 0, which a logarithmic axis cannot show.
            assert name == "batch" or any(np.isfinite(curve.y).any() for curve in panel.curves)
            assert all(curve.x.shape == curve.y.shape for curve in panel.curves)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_files_hold_the_numbers(outcomes, name):
    files = dict(files_of(EXPERIMENTS[name], outcomes[name], ("parity", "study", name)))
    document = json.loads(files[f"{name}.json"])
    assert document["format"] == "parity.study/1"
    assert document["experiment"] == name
    assert {"numpy", "parity"} <= document["environment"]["packages"].keys()
    rows = list(csv.reader(io.StringIO(files[f"{name}.csv"].decode())))
    assert rows[0] == list(outcomes[name].table.columns)
    assert len(rows) == 1 + len(document["table"]) == 1 + len(outcomes[name].table.rows)
    for figure, kept in zip(outcomes[name].figures, document["figures"], strict=True):
        assert kept["caption"] == figure.caption
        with Image.open(io.BytesIO(files[f"{figure.name}.png"])) as image:
            assert image.width >= 900
        assert files[f"{figure.name}.svg"].startswith(b"<?xml")


def test_the_same_numbers_make_the_same_files(outcomes):
    figure = outcomes["decay"].figures[0]
    for kind in ("png", "svg"):
        assert draw(figure, kind) == draw(figure, kind)


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
def test_a_change_is_of_one_argument(plane):
    changes = [change for group in plane.changes.values() for change in group]
    assert [len(change) for change in changes] == [1] * len(changes)
    assert {name for change in changes for name in change} == {
        *("lr", "momentum", "dampening", "nesterov", "schedule"),
        *("weight_decay", "maximize", "clip_norm", "clip_value"),
    }


def test_every_change_moves_the_path(outcomes):
    for name in ("quadratic", "rosenbrock"):
        panels = outcomes[name].figures[0].panels
        for panel in panels:
            before, after = panel.curves
            moved = np.abs(np.nan_to_num(after.y) - before.y)
            # A schedule that begins late is not seen in the quick form's few steps.
            assert moved.max() > 1e-6 or "StepLR" in panel.title, panel.title


def test_changes_are_written_as_in_python():
    assert stated({"nesterov": True}) == "nesterov=True"
    assert stated({"schedule": StepLR(step_size=3), "lr": 0.1}) == "lr=0.1, StepLR(step_size=3, gamma=0.1)"
    assert len(CNN_CHANGES) == 2


def test_forms_are_one_until_the_rate_changes(outcomes):
    largest = {row[0]: row[2] for row in outcomes["forms"].table.rows}
    constant = largest.pop("constant")
    assert constant < 1e-14
    assert min(largest.values()) > 1e-2


def test_dampenings_first_step_is_whole_in_torch_alone():
    first = {label.split(":")[0]: response(rule, 2) for label, rule in RULES.items()}
    np.testing.assert_allclose(first["torch"], [1, 0.9 + 0.1], rtol=1e-14)
    np.testing.assert_allclose(first["scaled"], [0.1, 0.09 + 0.1], rtol=1e-14)
    np.testing.assert_allclose(first["debiased"], [1, 1], rtol=1e-14)


def test_decays_end_where_they_should():
    outcome = EXPERIMENTS["decay"].run(Bench())
    ends = {(row[0], row[1]): np.array(row[2:4]) for row in outcome.table.rows}
    # (c + kappa ...): the optimum of ((x - 2)^2 + 4 (y - 1)^2 + w |p|^2) / 2 is 2 / (1 + w), 4 / (4 + w).
    coupled, weaker = np.array([2 / 1.5, 4 / 4.5]), np.array([2 / 1.05, 4 / 4.05])
    np.testing.assert_allclose(ends["momentum 0", "coupled, 0.5"], coupled, rtol=1e-12)
    np.testing.assert_allclose(ends["momentum 0", "decoupled, 0.5"], coupled, rtol=1e-12)
    # sqrt(0.9)^300 of the way is left.
    np.testing.assert_allclose(ends["momentum 0.9", "coupled, 0.5"], coupled, rtol=1e-5)
    np.testing.assert_allclose(ends["momentum 0.9", "decoupled, 0.5"], weaker, rtol=1e-5)
    np.testing.assert_allclose(ends["momentum 0.9", "decoupled, 5 = 0.5 / (1 - 0.9)"], coupled, rtol=1e-5)


def test_rates_are_read_off_the_steps(outcomes):
    table = outcomes["schedules"].table
    assert [row[0] for row in table.rows] == list(kinds(12))
    # dp is a difference of parameters whose rounding is 1e-16 of them, and lr g is a thousandth of them.
    assert max(row[1] for row in table.rows) < 1e-12
    assert all(row[3] == 0 for row in table.rows)


def test_a_wrong_rate_is_seen(small):
    from parity.contract import initial_weights
    from parity.oracle import impl

    state = impl.start(initial_weights(0), SGD(lr=0.02, momentum=0.0), dtype="float64", device="cpu")
    data = impl.place(state, small.train_images, small.train_labels)
    _, trace = impl.observe(state, data, np.arange(4, dtype=np.int32))
    assert rate_taken(trace) == pytest.approx(0.02, rel=1e-12)


def test_real_twins_in_lockstep(small, monkeypatch):
    monkeypatch.setattr(batch_module, "QUICK", {4: 60})
    bench = Bench(dataset=small, quick=True, names=("torch_impl:eager", "jax_impl"))
    outcome = EXPERIMENTS["batch"].run(bench)
    assert [row[0] for row in outcome.table.rows] == [4]
    gaps = outcome.figures[0].panels[0].curves[0]
    assert 0 < gaps.y[0] < 1e-2


def test_twins_that_are_one_program_never_part(outcomes):
    assert [row[3] for row in outcomes["batch"].table.rows] == [None] * len(batch_module.QUICK)
    assert all(curve.beyond for curve in outcomes["batch"].figures[0].panels[2].curves)


def test_a_set_that_is_too_small_is_refused(small, monkeypatch):
    monkeypatch.setattr(batch_module, "QUICK", {4096: 10})
    with pytest.raises(InputError, match="102 training images"):
        EXPERIMENTS["batch"].run(Bench(dataset=small, quick=True))


def test_an_experiment_that_trains_needs_images():
    with pytest.raises(InputError, match="give a data set"):
        EXPERIMENTS["cnn"].run(Bench())


def test_an_unknown_name_suggests_the_nearest():
    assert [experiment.name for experiment in experiments_named(["forms", "decay", "forms"])] == ["forms", "decay"]
    with pytest.raises(InputError, match="experiment nestrov: .*did you mean nesterov"):
        experiments_named(["nestrov"])
    with pytest.raises(InputError, match="give one of: quadratic, "):
        experiments_named(["zzz"])


def test_a_missing_number_is_empty_in_csv_and_a_dash_in_text():
    table = Table(columns=("a", "b"), rows=((1, None), ("x", 0.25)))
    assert csv_text(table) == "a,b\n1,\nx,0.25\n"
    assert list(table_lines(table)) == ["a  b", "1  -", "x  0.25"]


def test_numbers_that_json_has_none_for(outcomes):
    text = json_text(EXPERIMENTS["quadratic"], outcomes["quadratic"], ())
    assert "NaN" not in text
    assert "Infinity" not in text


def test_a_set_of_few_images_is_gone_through_again_and_again(small):
    few = Dataset(
        name="few",
        origin="three images",
        train_images=small.train_images[:3],
        train_labels=small.train_labels[:3],
        test_images=small.test_images,
        test_labels=small.test_labels,
    )
    bench = Bench(dataset=few, quick=True, names=("parity.oracle", "parity.oracle"))
    assert max(row[1] for row in EXPERIMENTS["schedules"].run(bench).table.rows) < 1e-12
    faked = Bench(dataset=few, quick=True, names=("tests.fakes:honest", "tests.fakes:honest"))
    assert EXPERIMENTS["cnn"].run(faked).table.rows[0][1] == CNN_QUICK_STEPS


def test_an_interrupted_training_shows_nothing(small, monkeypatch):
    monkeypatch.setattr(fakes.Fake, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        EXPERIMENTS["cnn"].run(Bench(dataset=small, quick=True, names=("tests.fakes:honest", "tests.fakes:honest")))


def interrupt(*arguments):
    raise KeyboardInterrupt
