"""Names at the ends of lines: none over another, none lost, each as near to its line as the others let it be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.render.figure import draw
from parity.render.line_names import GAP, apart
from parity.study import Curve, Figure, Panel


@given(st.lists(st.floats(0, 1), min_size=1, max_size=16))
def test_places_are_apart_in_the_order_of_the_lines(places):
    found = apart(places, GAP)
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.array(found)[order]) >= GAP - 1e-6).all()
    assert np.mean(found) == pytest.approx(np.mean(places), abs=1e-6)


def test_who_has_room_stays():
    assert apart([0.9, 0.1, 0.5], 0.1) == [0.9, 0.1, 0.5]


@pytest.mark.parametrize("batches", [(4.0,), (4.0, 32.0, 128.0)])
def test_every_line_is_named_within_the_figure(batches, monkeypatch):
    from matplotlib.axes import Axes

    named, annotate = [], Axes.annotate
    monkeypatch.setattr(Axes, "annotate", lambda *args, **how: named.append(annotate(*args, **how)) or named[-1])
    x = np.array(batches)
    curves = tuple(Curve(x=x, y=1e3 * x + n, label=f"contestant {n}", color=n, thin=n > 3) for n in range(16))
    panel = Panel(
        title="t", x_label="x", y_label="y", curves=curves, log_x=True, log_y=True, x_ticks=batches, direct=True
    )
    draw(Figure(name="f", title="t", caption="c", panels=(panel,)), "png")
    assert [name.get_text() for name in named] == [curve.label for curve in curves]
    boxes = sorted((name.get_window_extent() for name in named), key=lambda box: box.y0)
    width, height = named[0].figure.figure.canvas.get_width_height()
    ticks = [label.get_text() for label in named[0].axes.get_yticklabels()]
    assert len(ticks) >= 3
    assert all(tick.replace(",", "").isdigit() for tick in ticks)
    assert boxes[0].y0 >= 0
    assert boxes[-1].y1 <= height
    assert max(name.get_bbox_patch() is None and name.get_window_extent().x0 for name in named) < width
