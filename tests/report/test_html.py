"""Pages as text: what they hold, how large they are, and what they are where there is little to show."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from parity import oracle
from parity.checking import check
from parity.compare import Stage, tensor_detail
from parity.contract import initial_weights
from parity.problem import cnn_problem
from parity.render.terminal import report_lines
from parity.report import fragment, html, stopped
from parity.report.check import check_page
from parity.report.curves import EQUAL, gap_axis, gap_trace
from parity.report.document import document_of
from parity.report.figures import band
from parity.report.page import Chart, Explorer, Headline, Page, Section, Table
from parity.report.tensors import COLUMNS
from parity.report.training import training_page
from parity.run import run_sides
from parity.settings import Settings, Side
from tests import fakes
from tests.report import more_pages, pages

LIMIT = 6_000_000


class Outline(HTMLParser):
    """Headings, charts' labels, tags, and images without a description or headings of tables without a scope."""

    def __init__(self, text):
        super().__init__()
        self.levels, self.labels, self.tags, self.lacking = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if given.get("role") == "img":
            self.labels.append(given["aria-label"])
        if (tag == "img" and not given.get("alt")) or (tag == "th" and given.get("scope") not in ("col", "row")):
            self.lacking.append(self.get_starttag_text())


def test_a_run_of_thousands_of_steps_stays_small(run_report):
    """And one of twenty times as many is hardly larger: series, heat map and tables are thinned."""
    result, dataset = run_report
    assert result.report.steps == 3100
    sides = tuple(replace(side, losses=np.tile(side.losses, 20)) for side in result.run.sides)
    longer = replace(result.run, sides=sides, gaps=20 * result.run.gaps)
    size, other = (len(html(result.report, run=run, dataset=dataset).encode()) for run in (result.run, longer))
    assert other < 1.05 * size < LIMIT
    page = training_page(replace(result.report, windows=20 * result.report.windows), longer, dataset)
    assert len(chart_of(page, "tensors").figure["data"][0]["x"]) <= COLUMNS < len(longer.gaps)
    assert max(len(block.rows) for part in page.sections for block in part.blocks if isinstance(block, Table)) <= 60


def test_headings_are_in_order_and_charts_have_labels(files):
    for file in files.values():
        outline = Outline(file.read_text())
        assert outline.levels[0] == 1
        assert outline.levels.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))
        # The histogram's label is empty until there is a histogram: the script gives it one.
        assert outline.labels.count("") == outline.tags.count("select")
        assert outline.tags.count("table") == outline.tags.count("caption")
        assert outline.lacking == []


def test_nothing_of_the_users_ends_a_script(files):
    """Every element of the page was written by a template: what names contain adds none."""
    for file in files.values():
        text = file.read_text()
        scripts = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, flags=re.DOTALL)
        assert scripts
        for script in scripts:
            json.loads(script)
            assert "<" not in script
        assert pages.HOSTILE not in text
        assert "onerror=alert(2)>" not in text


def test_an_interrupted_run_says_so():
    result, dataset = pages.run(steps=400, other=fakes.interrupted, ensemble=0)
    text = html(result.report, run=result.run, dataset=dataset)
    assert "Stopped in the float64 check: interrupted" in text


def test_a_run_that_stopped_before_its_first_step_has_no_empty_axes():
    result, dataset = pages.run(steps=400, other=fakes.Fake(nan_at=0), ensemble=0)
    text = html(result.report, run=result.run, dataset=dataset)
    assert "Stopped in the float64 check: not finite" in text
    assert "No step was completed." in text
    assert "chart-losses" not in text


def test_equal_sides_have_no_gap_to_draw():
    result, dataset = pages.run(steps=250, other=fakes.honest, ensemble=0)
    assert "equal to the last bit in every step" in html(result.report, run=result.run, dataset=dataset)


def test_one_side_alone(small):
    result = run_sides([Side(name="alone", implementation=fakes.honest)], small, Settings(epochs=1))
    text = html(result.report, run=result.run, dataset=small)
    assert "alone was trained" in text
    assert "chart-tensors" not in text


def test_without_arrays_there_are_tables_alone(run_report):
    result, _ = run_report
    text = html(result.report)
    assert "not part of this report" in text
    assert "chart-losses" not in text


def test_a_notebook_shows_the_verdict_without_a_script(run_report):
    result, _ = run_report
    shown = result.report._repr_html_()
    assert shown == fragment(result.report)
    assert "<script" not in shown
    assert "<table" in shown
    assert len(shown) < 60_000
    assert "Match" in pages.checked(oracle.impl)._repr_html_()


def test_a_page_without_a_result_is_short_and_says_why():
    text = stopped(("parity", "run", pages.PATH), ("a", pages.HOSTILE), "It was interrupted.")
    assert "It was interrupted." in text
    assert pages.HOSTILE not in text
    assert len(text) < 100_000


def test_the_details_are_of_what_was_compared():
    report = pages.checked(pages.Faulty())
    finding = report.check.finding
    detail = next(each for each in report.check.details if each.place == finding.place)
    assert sum(detail.counts) == np.prod(detail.shape)
    assert "details" not in json.loads(report.to_json())["check"]


def test_a_tensor_in_detail():
    a = np.array([[0.0, 1.0], [2.0, np.nan]])
    b = np.array([[0.0, 1.5], [-2.0, 3.0]])
    detail = tensor_detail(Stage(stage="weights", tensor="w"), a, b, step=3)
    assert [element.index for element in detail.largest] == [(1, 1), (1, 0), (0, 1)]
    assert (detail.unequal, detail.not_finite, detail.not_finite_alike, sum(detail.counts)) == (3, 1, 0, 3)
    assert detail.edges[0] == -detail.edges[-1] == -4
    with pytest.raises(ValueError, match="shapes differ"):
        tensor_detail(Stage(stage="weights", tensor="w"), a, b[0], step=3)


@pytest.mark.parametrize("reach", [0.0, 5e-324, 1e-305])
def test_differences_too_small_for_bins_have_no_histogram(reach):
    """Bins of such widths are 0 wide, or denormal, and nothing can draw them."""
    a = np.array([np.nan, np.inf, -np.inf, 1.0, 0.0])
    b = np.array([np.nan, np.inf, np.inf, 1.0, reach])
    detail = tensor_detail(Stage(stage="weights", tensor="w"), a, b, step=0)
    assert (detail.edges, detail.counts) == ((), ())
    assert (detail.unequal, detail.not_finite, detail.not_finite_alike) == (1 + (reach > 0), 3, 2)


def test_a_large_tensor_is_looked_at_in_blocks(monkeypatch):
    """The same comes of blocks of any size, the last of which may be short."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 31)), rng.normal(size=(7, 31))
    a[3, 3] = np.nan
    place = Stage(stage="weights", tensor="w")
    whole = tensor_detail(place, a, b, step=0)
    monkeypatch.setattr("parity.compare.detail.BLOCK", 10)
    assert str(tensor_detail(place, a, b, step=0)) == str(whole)  # as text, since NaN is not equal to itself


def test_a_check_looks_at_elements_only_where_they_are_shown(small):
    sides = (Side(name="a", implementation=oracle.impl), Side(name="b", implementation=oracle.impl))
    problem = cnn_problem(small, initial_weights(0))
    assert check(sides, problem, Settings(), steps=2).details == ()
    assert {each.phase for each in check(sides, problem, Settings(), steps=2, details=True).details} == {
        "",
        "tie probe",
    }


def test_a_run_that_diverges_has_the_losses_up_to_there():
    """The states of the chunk are not kept, and the page says so; its losses are there to be seen."""
    result, dataset = pages.run(steps=400, other=fakes.Fake(nan_at=205), ensemble=0)
    assert (result.report.steps, [len(side.tail) for side in result.run.sides]) == (200, [5, 5])
    chart = chart_of(training_page(result.report, result.run, dataset), "losses")
    assert chart.figure["layout"]["xaxis"]["range"] == [0, 205]
    assert "The last 5 are of steps after which the states were not kept" in chart.caption
    text = html(result.report, run=result.run, dataset=dataset)
    assert "the loss of step 205 is nan" in text


def chart_of(page, name):
    return next(
        each
        for part in page.sections
        for block in part.blocks
        for each in getattr(block, "charts", (getattr(block, "chart", block),))
        if isinstance(each, Chart) and each.name == name
    )


def test_a_sides_name_is_written_as_it_is():
    result, dataset = pages.run(steps=400, other=fakes.Fake(nan_at=205), ensemble=0)
    sides = tuple(replace(side, name="torch_impl") for side in result.report.sides)
    ending = replace(result.report.ending, detail="torch_impl: the loss of step 205 is nan")
    headline = training_page(replace(result.report, sides=sides, ending=ending), None, dataset).headline
    assert headline.detail.startswith("torch_impl: ")


def test_a_gap_between_zeros_is_a_dot():
    """A line needs two points side by side; 0 is none on a log axis, and where both are equal the caption says so."""
    values = np.zeros(200)
    values[[50, 100, 101]] = 1e-9
    trace = gap_trace(band(values))
    sizes = np.asarray(trace["marker"]["size"])
    assert np.flatnonzero(sizes).tolist() == [50]
    assert all(gap_trace(band(values[:20]))["marker"]["size"])
    result, dataset = pages.run(steps=400, ensemble=0)
    assert EQUAL in chart_of(training_page(result.report, result.run, dataset), "losses").caption


@pytest.mark.parametrize("ends", [(2.5e-16, 4e-16), (1e-16, 1e-3), (1e-9, 1e-9)])
def test_the_lower_axis_has_ticks_at_powers_of_ten_alone(ends):
    axis = gap_axis(ends)
    ticks = np.arange(axis["tick0"], axis["range"][1], axis["dtick"])
    assert all(tick == round(tick) for tick in ticks)
    assert 2 <= np.count_nonzero((ticks >= axis["range"][0]) & (ticks <= axis["range"][1])) <= 7


def test_another_formula_has_no_horizon_and_its_cause_stands_by_itself():
    result, dataset = pages.run(steps=400, other=fakes.wrong_lr)
    page = training_page(result.report, result.run, dataset)
    facts = {fact.name: fact.value for block in page.sections[0].blocks for fact in getattr(block, "facts", ())}
    assert "Gradients" not in facts
    assert facts["Cause"]
    assert "horizon" not in chart_of(page, "losses").caption.lower()


def test_one_is_singular():
    result, dataset = pages.run(steps=400, ensemble=1)
    text = html(result.report, run=result.run, dataset=dataset) + "\n".join(report_lines(result.report))
    assert "1 run of honest" in text
    assert "1 runs" not in text


def test_classes_of_one_name_have_a_row_each():
    result, dataset = pages.run(steps=50, ensemble=0)
    twice = ("cat", "cat", *dataset.classes[2:])
    data = replace(result.report.data, classes=twice)
    page = training_page(replace(result.report, data=data), result.run, replace(dataset, classes=twice))
    bars = chart_of(page, "classes").figure
    assert list(bars["data"][0]["y"]) == list(range(10))
    assert bars["layout"]["yaxis"]["ticktext"][:2] == ["cat", "cat"]


def test_confusions_that_are_equal_say_so():
    result, dataset = pages.run(steps=50, other=fakes.honest, ensemble=0)
    chart = chart_of(training_page(result.report, result.run, dataset), "confusion-difference")
    assert chart.caption.endswith(" All cells are 0.")


def test_a_page_that_would_be_too_large_leaves_the_heaviest_details_out():
    page = check_page(pages.checked(pages.Faulty()))
    explorer = next(block for part in page.sections for block in part.blocks if isinstance(block, Explorer))
    # The last, so that those before it are not left out only because they come first.
    heavy = {**explorer.entries[-1], "rows": [("[0]", "1" * 100_000, "2", "3")] * 20}
    entries = (*explorer.entries[:-1], heavy)
    sections = tuple(
        replace(part, blocks=tuple(replace(b, entries=entries) if b is explorer else b for b in part.blocks))
        for part in page.sections
    )
    text = document_of(replace(page, sections=sections))
    assert len(text.encode()) < LIMIT
    assert text.count("Its elements are left out") == 1
    assert "Its elements are left out" not in document_of(page)


def test_everything_with_a_page_shows_itself_in_a_notebook(run_report):
    result, _ = run_report
    assert result._repr_html_() == result.report._repr_html_()
    for report in (
        more_pages.studied("quadratic"),
        more_pages.benchmark(),
        more_pages.scaled(),
        more_pages.costs(1, 2),
    ):
        assert "<table" in report._repr_html_()
        assert "<script" not in report._repr_html_()


def test_a_table_without_rows_is_only_its_heading():
    table = Table(caption="nothing", columns=("a", "b"), rows=())
    section = Section(title="t", blocks=(table,))
    page = Page(kicker="", title="", headline=Headline(kind="match", sentence="s"), sections=(section,))
    text = document_of(page)
    assert "<caption>nothing</caption>" in text
    assert re.findall("<t[hd].*?>", text) == [
        "<thead>",
        '<th scope="col" class="words">',
        '<th scope="col" class="words">',
    ]


@pytest.mark.parametrize(
    ("cells", "left"), [(("-", "1.5", "2"), False), (("words", "1", "more words"), True), (("-", "-", "+3"), False)]
)
def test_a_heading_stands_as_most_of_its_cells_do(cells, left):
    table = Table(caption="c", columns=("", "the column"), rows=tuple(("x", cell) for cell in cells))
    section = Section(title="t", blocks=(table,))
    page = Page(kicker="", title="", headline=Headline(kind="match", sentence="s"), sections=(section,))
    assert ('class="words">the column' in document_of(page)) == left


def test_a_long_series_keeps_its_extremes():
    values = np.sin(np.arange(10_001) / 7)
    values[[17, 9_999, 10_000]] = [9, -9, np.nan]
    thin = band(values, points=100)
    assert (thin.high.max(), thin.low.min(), thin.width) == (9, -9, 101)
    assert len(thin.steps) == 100
    assert ((thin.low <= thin.mean) & (thin.mean <= thin.high)).all()
    assert np.isnan(band(np.array([1.0, np.inf])).mean[1])


def test_a_tensor_that_only_one_side_has_is_named_without_elements(run_report):
    result, dataset = run_report
    sides = (result.run.sides[0], replace(result.run.sides[1], momentum={}))
    text = html(result.report, run=replace(result.run, sides=sides), dataset=dataset)
    assert "Only one side keeps it." in text
