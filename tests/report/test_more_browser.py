"""Pages of drills, studies and benchmarks in a browser, as `test_browser` has those of runs and checks."""

from __future__ import annotations

import pytest

from parity.report import html
from tests.report import more_pages
from tests.report.conftest import requests, settle
from tests.report.pages import HOSTILE
from tests.report.test_browser import CONTRAST

CHARTS = {
    "drill": ["faults"],
    "misses": ["faults"],
    "study": [*(f"quadratic-paths-{n}" for n in range(9)), "quadratic-distance-0", "quadratic-distance-1", "words-0"],
    "bench": ["throughput-0", *(f"ratios-{n}" for n in range(12))],
    "failures": ["throughput-0", "ratios-0", "ratios-1"],
    "scaling": ["scaling-0", "scaling-1"],
    "costs": ["costs"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, small):
    """In place of the files of runs and checks."""
    folder = tmp_path_factory.mktemp("more")
    drilled = more_pages.drilled(small)
    reports = {
        "drill": drilled,
        "misses": more_pages.with_misses(drilled),
        "study": more_pages.studied("quadratic"),
        "bench": more_pages.benchmark(),
        "failures": more_pages.benchmark_with_failures(),
        "scaling": more_pages.scaled(),
        "costs": more_pages.costs(1.2, 3.0),
    }
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(html(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.mark.parametrize("name", CHARTS)
def test_it_loads_without_errors_and_every_shown_chart_is_drawn(show, name):
    browser = show(name)
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith(("data:", "blob:"))] == [browser.current_url]
    drawn = "return [...document.querySelectorAll('figure.chart[id]')].map((figure) => [figure.id, figure.hidden, "
    drawn += "figure.querySelectorAll('.trace, .heatmaplayer image, .contourlayer path').length])"
    found = browser.execute_script(drawn)
    assert [key for key, _, _ in found] == [f"chart-{chart}" for chart in CHARTS[name]]
    assert all(bool(count) != hidden for _, hidden, count in found)


@pytest.mark.parametrize("name", CHARTS)
def test_both_themes_are_legible(show, name):
    browser = show(name)
    grounds = []
    for _ in range(2):
        worst = min(browser.execute_script(CONTRAST))
        assert worst[0] >= 4.5, worst
        grounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        browser.find_element("id", "theme").click()
        settle_shown(browser)
    assert len(set(grounds)) == 2


def settle_shown(browser):
    settle(browser)
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("name", CHARTS)
def test_a_phone_scrolls_in_one_direction(show, name):
    browser = show(name)
    size = {"width": 375, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.refresh()
    settle(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 375


@pytest.mark.parametrize("name", CHARTS)
def test_nothing_is_left_for_axe_to_find(show, name):
    from axe_core_python.selenium import Axe

    browser = show(name)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = Axe().run(browser)["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]][:3]) for rule in found] == []


@pytest.mark.parametrize("name", ["misses", "study", "failures", "scaling", "costs"])
def test_text_with_markup_stays_text(show, name):
    browser = show(name)
    assert HOSTILE in browser.find_element("tag name", "body").text
    assert browser.find_elements("css selector", "img[src='x'], b") == []


def test_names_in_a_chart_stay_text(show):
    browser = show("study")
    names = [entry.text for entry in browser.find_elements("css selector", "#chart-words-0 .legendtext")]
    assert names[:2] == ["<b>spike</b>", f"{HOSTILE} 1"]
    assert browser.find_element("css selector", "#chart-words-0 .ytitle").text == HOSTILE


def test_a_baseline_is_chosen_by_keyboard(show):
    from selenium.webdriver.common.keys import Keys

    browser = show("bench")
    shown = "return [...document.querySelectorAll('[data-choice] figure:not([hidden])')].map((one) => one.id)"
    assert browser.execute_script(shown) == ["chart-ratios-0"]
    browser.find_element("css selector", "[data-choice] .choose").send_keys(Keys.ARROW_DOWN)
    settle(browser)
    assert browser.execute_script(shown) == ["chart-ratios-1"]
    title = browser.find_element("css selector", "#chart-ratios-1 .xtitle").text
    assert title == "times as fast as contestant_1"
    # 1 and 3 of the twelve at every batch size: twice as fast, and half as fast, as the one that takes 2 ms.
    texts = "return document.querySelector('#chart-ratios-1 .plot').data.map((trace) => trace.customdata[0])"
    assert [text.split(" ")[0] for text in browser.execute_script(texts)] == ["2"] * 3
    browser.find_element("id", "theme").click()
    settle_shown(browser)
    wide = "return document.querySelector('#chart-ratios-1 .main-svg').clientWidth"
    assert browser.execute_script(wide) > 600


def test_a_click_on_a_fault_looks_into_it(show):
    from selenium.webdriver import ActionChains

    browser = show("misses")
    title = "return document.querySelector('.detail-title').textContent"
    options = [option.text for option in browser.find_elements("css selector", ".choose option")]
    assert browser.execute_script(title) == options[0]
    drag = browser.find_element("css selector", "#chart-faults .nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", drag)
    height = drag.size["height"]
    offset = round(1.5 / len(options) * height - height / 2)
    ActionChains(browser).move_to_element_with_offset(drag, 20, offset).pause(0.3).click().perform()
    assert browser.execute_script(title) == options[1]
