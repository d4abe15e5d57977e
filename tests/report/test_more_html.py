"""What pages of drills, studies and benchmarks say, and how large they are."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from parity.bench.growth import Growth
from parity.report import fragment, html
from parity.report.bench import bench_page
from parity.report.drill import drill_page
from parity.report.growth import cost_page, scaling_page
from parity.report.page import Choice, Explorer, Table
from parity.report.panels import POINTS, charts_of, style
from parity.report.study import study_page
from tests.bench.test_report import report, row
from tests.report import more_pages
from tests.report.pages import HOSTILE, PATH

LIMIT = 6_000_000


@pytest.fixture(scope="module")
def drilled(small):
    return more_pages.drilled(small)


def titles(page):
    return [section.title for section in page.sections]


def tables(page):
    return {block.caption: block for part in page.sections for block in part.blocks if isinstance(block, Table)}


def test_a_drill_that_finds_everything(drilled):
    page = drill_page(drilled)
    assert page.headline.kind == "match"
    assert page.headline.sentence == (
        "All 4 faults planted in parity.oracle are found; each at its stage, and within the first step that can show it"
    )
    assert "Called by its name: 3 of 3 (100.0 %)" in page.headline.detail
    assert titles(page)[:2] == ["Rates", "Fault by fault"]


def test_what_a_drill_misses_comes_first(drilled):
    whole = more_pages.with_misses(drilled)
    page = drill_page(whole)
    assert page.headline.kind == "differs"
    assert page.headline.sentence.startswith(
        "1 of 4 faults planted in parity.oracle is not found; 1 is found in another"
    )
    assert "1 of 1 changes that are no fault are called one" in page.headline.sentence
    assert titles(page)[1] == "Missed"
    table = tables(page)["Not as it should be; what was missed comes first"]
    assert [cells[3] for cells in table.rows] == ["missed", "found, too late", "false alarm"]
    explorer = next(block for part in page.sections for block in part.blocks if isinstance(block, Explorer))
    keys = [each.key for each in whole.results[2::-1]]
    assert [entry["label"] for entry in explorer.entries[:3]] == keys
    heat = explorer.chart.figure["data"][0]
    assert heat["text"][:3] == [["✗", "", "", ""], ["✓", "✓", "✗", "✓"], ["✓", "✓", "✓", "✗"]]
    assert explorer.chart.alt.endswith(f"Not found: {keys[0]}.")


def test_both_sides_of_a_fault_share_a_row(drilled):
    both = [replace(each, side=side) for each in drilled.results for side in "ab"]
    page = drill_page(replace(drilled, results=tuple(both)))
    explorer = next(block for part in page.sections for block in part.blocks if isinstance(block, Explorer))
    assert len(explorer.entries) == 4
    assert explorer.chart.figure["data"][0]["x"][:2] == ["found (a)", "found (b)"]


def test_a_drill_of_changes_alone(drilled):
    benign = tuple(each for each in drilled.results if each.group == "benign")
    page = drill_page(more_pages._drill_report(benign))
    assert (page.headline.word, page.headline.kind) == ("No false alarm", "match")
    assert not page.has_charts
    assert len(html(more_pages._drill_report(benign))) < 100_000


def test_a_notebook_shows_a_drill(drilled):
    shown = drilled._repr_html_()
    assert shown == fragment(drilled)
    assert "<script" not in shown
    assert "All found" in shown


def test_a_study_has_every_panel_and_the_table():
    whole = more_pages.studied("quadratic", "forms")
    page = study_page(whole)
    assert titles(page)[:3] == ["quadratic", "forms", "words"]
    assert page.headline.sentence == "3 experiments on what an optimizer does"
    alone = study_page(replace(whole, studied=whole.studied[1:2]))
    assert alone.headline.sentence == whole.studied[1].experiment.question
    text = html(whole)
    for experiment in whole.studied:
        for figure in experiment.outcome.figures:
            drawn = charts_of(figure).charts
            assert [chart.caption for chart in drawn] == [panel.title for panel in figure.panels]
            assert all(f'id="chart-{chart.name}"' in text for chart in drawn)


def test_scripts_of_a_study_hold_json_that_no_text_can_end():
    text = html(more_pages.studied("decay"))
    scripts = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, flags=re.DOTALL)
    for script in scripts:
        json.loads(script)
        assert "<" not in script
    assert HOSTILE not in text
    assert len(text.encode()) < LIMIT


def test_a_curve_keeps_its_extremes_and_its_scale():
    panel = more_pages._hostile().figures[0].panels[0]
    chart = charts_of(more_pages._hostile().figures[0]).charts[0]
    spike = chart.figure["data"][0]
    y = np.frombuffer(_unpacked(spike["y"]["bdata"]), spike["y"]["dtype"])
    assert len(y) <= POINTS + 2 < len(panel.curves[0].y)
    assert y.max() == 1e60
    assert chart.figure["layout"]["yaxis"]["type"] == "log"
    assert chart.figure["layout"]["yaxis"]["title"]["text"] == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert chart.alt.startswith(f"{HOSTILE}: {HOSTILE} over x < 1 & y. <b>spike</b>: 1 at 0 to 1 at 4,999;")


def _unpacked(text):
    import base64

    return base64.b64decode(text)


def test_what_is_alike_in_colour_differs_in_dash_and_symbol():
    styles = [style(number) for number in range(42)]
    assert len({(each.color, each.dash, each.symbol) for each in styles}) == 42
    for number, each in enumerate(styles):
        for other in styles[number + 1 :]:
            assert each.color != other.color or (each.dash != other.dash and each.symbol != other.symbol)


def test_a_benchmark_says_who_is_how_many_times_as_fast_as_whom():
    page = bench_page(more_pages.benchmark())
    sentence = "contestant_0 is 2.0 times as fast as contestant_1 at batch 4, 2.0 times at batch 32 and 2.0 times at "
    assert page.headline.sentence == f"{sentence}batch 128"
    assert page.headline.word == "Measured"
    assert "Every contestant computes what it should. At batch 4 contestant_0 is 12.0 times" in page.headline.detail
    captions = [caption.partition(",")[0] for caption in tables(page)]
    assert captions.count("float32") == 3
    choice = next(block for part in page.sections for block in part.blocks if isinstance(block, Choice))
    assert [name for name, _ in choice.options] == [f"contestant_{n}" for n in range(12)]


def test_the_first_named_is_the_baseline_where_another_is_the_fastest():
    whole = more_pages.benchmark()
    cells = tuple(replace(cell, rows=(row("slow", 5.0), *cell.rows[:2])) for cell in whole.cells[:1])
    page = bench_page(replace(whole, cells=cells))
    assert page.headline.sentence.startswith("contestant_0 is 1,250 times as fast as slow at batch 4")


def test_two_that_are_equally_fast_are_said_to_be():
    rounds = (1.0, 1.1, 0.9, 1.05, 0.95)
    rows = (row("a", 1.0, seconds=rounds), row("b", 1.0, seconds=rounds[::-1]))
    whole = more_pages.benchmark()
    page = bench_page(replace(whole, cells=(replace(whole.cells[0], rows=rows),)))
    assert "are equally fast, within the intervals, at batch 4" in page.headline.sentence


def test_the_reference_is_not_the_one_to_be_held_against():
    whole = more_pages.benchmark()
    rows = (row("a", 2e-3), row("b", 1e-3), row("reference", 1e-4))
    page = bench_page(replace(whole, cells=(replace(whole.cells[0], rows=rows),)))
    assert page.headline.sentence == "b is 2.0 times as fast as a at batch 4"
    assert "the compiled reference, on one thread, 10.0 times as fast as b" in page.headline.detail


def test_what_did_not_pass_the_judge_is_said_first():
    whole = more_pages.benchmark_with_failures()
    page = bench_page(whole, old=replace(whole, load=0.0))
    assert (page.headline.kind, page.headline.word) == ("differs", "Not all compute the same")
    assert f"{HOSTILE} does not compute what it should at batch 4, 32 and 128, and was not " in page.headline.detail
    assert "gone failed at batch 4, 32 and 128" in page.headline.detail
    assert "the times are disturbed" in page.headline.detail
    assert titles(page)[0] == "What did not pass"
    assert "What has changed" in titles(page)
    text = html(whole)
    assert HOSTILE not in text
    assert PATH not in text


def test_a_benchmark_in_which_nothing_was_timed():
    page = bench_page(report())
    assert page.headline.sentence == "Nothing was timed"
    assert not page.has_charts


def test_a_benchmark_of_one_has_nothing_to_be_held_against():
    page = bench_page(replace(whole := report(1e-3), cells=(replace(whole.cells[0], rows=whole.cells[0].rows[:1]),)))
    assert page.headline.sentence == "a alone was timed, at batch 4"
    assert "How many times as fast" not in titles(page)


def test_scaling_and_costs():
    page = scaling_page(more_pages.scaled())
    assert page.headline.word == "Not all were timed"
    assert page.headline.sentence.startswith("one: the work dominates from 16 on; ")
    assert titles(page)[:3] == ["What failed", "How training time grows", "Batch size"]
    over, under = (cost_page(more_pages.costs(lockstep, 3.0)).headline for lockstep in (1.2, 1.0))
    assert (over.kind, under.kind) == ("differs", "match")
    assert over.detail == "Over its limit: lockstep."


def test_scaling_of_which_nothing_could_be_timed():
    whole = more_pages.scaled()
    page = scaling_page(replace(whole, curves=whole.curves[-1:]))
    assert (page.headline.kind, page.has_charts) == ("stopped", False)
    assert isinstance(whole.curves[0].line, Growth)
