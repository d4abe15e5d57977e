"""What is kept of a run beside its report: TensorBoard's scalars, read by TensorBoard, and pictures."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from parity.contract import InputError
from parity.render.figure import draw
from parity.render.grid import draw_grid, kind_of
from parity.render.pictures import loss_figure, pictures
from parity.render.scalars import check_tensorboard, write_scalars
from parity.run import run_sides
from parity.settings import Settings, Side
from parity.study import Curve, Figure, Panel
from tests import fakes


@pytest.fixture(scope="module")
def result(small):
    sides = [Side(name=name, implementation=fakes.honest) for name in ("fakes:a", "fakes:b")]
    return run_sides(sides, small, Settings(epochs=2), ensemble=2)


def test_tensorboard_reads_both_sides_as_runs(result, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folders = write_scalars(tmp_path / "tb", result, steps_per_epoch=26)
    assert [folder.name for folder in folders] == ["fakes-a", "fakes-b"]
    for number, folder in enumerate(folders):
        read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        read.Reload()
        losses = read.Scalars("loss/step")
        assert [event.step for event in losses] == list(range(52))
        np.testing.assert_array_equal([event.value for event in losses], result.run.sides[number].losses)
        accuracies = read.Scalars("accuracy/test")
        assert [event.step for event in accuracies] == [26, 52]
        # Event files hold float32.
        expected = [np.float32(epoch.accuracies[number]) for epoch in result.run.epochs]
        assert [event.value for event in accuracies] == expected
        assert ("difference/loss" in read.Tags()["scalars"]) == (number == 1)
    assert [event.step for event in read.Scalars("difference/parameters")] == [gap.steps for gap in result.run.gaps]


def test_a_run_that_ends_within_an_epoch_has_its_last_accuracies(small, tmp_path):
    """After its last step; and events say when they were written, where 0 would be shown as 1970."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sides = [Side(name=name, implementation=fakes.honest) for name in ("a", "b")]
    result = run_sides(sides, small, Settings(epochs=2, steps=30))
    before = time.time()
    (folder, _) = write_scalars(tmp_path, result, steps_per_epoch=26)
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    assert [event.step for event in read.Scalars("accuracy/test")] == [26, 30]
    assert read.Scalars("accuracy/test")[-1].value == np.float32(result.report.sides[0].predictions.accuracy)
    assert all(before - 1 <= event.wall_time <= time.time() + 1 for event in read.Scalars("loss/step"))


def test_a_folder_with_a_run_is_refused(result, tmp_path):
    pytest.importorskip("tensorboard")
    write_scalars(tmp_path, result, steps_per_epoch=26)
    with pytest.raises(InputError, match="fakes-a holds a run already; name another folder"):
        check_tensorboard(tmp_path, ("fakes:a", "fakes:b"))
    check_tensorboard(tmp_path / "new", ("fakes:a", "fakes:b"))


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"TensorBoard is not installed; pip install '.\[tensorboard\]'"):
        check_tensorboard(tmp_path, ("a",))


def test_pictures_of_a_run(result, small, tmp_path):
    drawn = dict(pictures(result, small))
    assert drawn.keys() == {f"{name}.{kind}" for name in ("loss", "accuracy", "predictions") for kind in ("png", "svg")}
    for name, content in drawn.items():
        (tmp_path / name).write_bytes(content)
        if name.endswith("png"):
            with Image.open(tmp_path / name) as image:
                assert min(image.size) > 300
        else:
            assert ElementTree.fromstring(content).tag.endswith("svg")  # noqa: S314  drawn here
    assert dict(pictures(result, small)) == drawn, "the same numbers are the same bytes"


def test_the_loss_curves_are_means_of_all_steps(result):
    long = np.arange(1001, dtype=np.float64)
    sides = tuple(replace(side, losses=long) for side in result.run.sides)
    figure = loss_figure(replace(result, run=replace(result.run, sides=sides)))
    for curve in figure.panels[0].curves:
        assert len(curve.x) <= 200
        np.testing.assert_allclose(curve.y, curve.x)  # the mean of n, n + 1, ... lies in their middle
    assert "52 steps" in figure.caption
    assert "match" in figure.caption


def test_disagreements_come_first(result, small):
    logits = np.zeros((40, 10))
    logits[:, 1] = 1
    other = logits.copy()
    other[[7, 31], 2] = 2
    sides = tuple(replace(s, logits=found) for s, found in zip(result.run.sides, (logits, other), strict=True))
    changed = replace(result, run=replace(result.run, sides=sides))
    svg = dict(pictures(changed, small))["predictions.svg"].decode()
    assert "<!-- 7: " in svg
    assert "<!-- 31: " in svg
    assert svg.index("<!-- 7: ") < svg.index("<!-- 31: ") < svg.index("<!-- 0: ")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_markup_in_class_names_is_text(place):
    """Above an image, beneath it and in the caption; between dollars it would be a formula, and no valid one."""
    texts = 3 * ["<b>&"]
    texts[place] += " $\\frac$"
    above, beneath, caption = texts
    content = draw_grid(np.zeros((1, 32, 32, 3), np.uint8), [above], [((beneath, True),)], caption=caption, kind="svg")
    assert ElementTree.fromstring(content).tag.endswith("svg")  # noqa: S314  drawn here


@pytest.mark.parametrize("name", ["a.jpg", "a", "png"])
def test_pictures_are_png_or_svg(tmp_path, name):
    with pytest.raises(InputError, match=r"it ends neither in \.png nor in \.svg"):
        kind_of(tmp_path / name, argument="out")


@pytest.mark.parametrize("style", [{}, {"thin": True}, {"marks": True}, {"marks": True, "dashed": True}])
@pytest.mark.parametrize("points", [2, 50])
def test_no_two_curves_look_alike(style, points, monkeypatch):
    """Of as many contestants as a benchmark may have; twice the palette and more."""
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, *args, **how: drawn.append(how) or plot(axes, *args, **how))
    x = np.arange(points, dtype=np.float64)
    curves = tuple(Curve(x=x, y=x + n, label=str(n), color=n, **style) for n in range(24))
    panel = Panel(title="t", x_label="x", y_label="y", curves=curves)
    draw(Figure(name="f", title="t", caption="c", panels=(panel,)), "svg")
    looks = {(how["color"], str(how.get("linestyle")), how.get("marker")) for how in drawn}
    assert len(drawn) == len(looks) == 24
