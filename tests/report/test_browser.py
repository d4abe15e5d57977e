"""Pages as a reader meets them, in a browser: they are drawn, they answer to click and key, and ask for nothing."""

from __future__ import annotations

import json

import pytest

from parity.report.figures import short
from tests.report.conftest import requests, settle
from tests.report.pages import CLASSES, HOSTILE, PATH

ALL = ("run", "differs", "match", "not-finite")


@pytest.mark.parametrize("name", ALL)
def test_it_loads_without_errors_and_without_the_network(show, name):
    browser = show(name)
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith(("data:", "blob:"))] == [browser.current_url]


@pytest.mark.parametrize(
    ("name", "charts"),
    [
        ("run", ["losses", "tensors", "classes", "confusion-0", "confusion-1", "confusion-difference"]),
        ("differs", ["ladder"]),
        ("match", ["ladder", "precision"]),
        ("not-finite", ["ladder"]),
    ],
)
def test_every_chart_is_drawn(show, name, charts):
    browser = show(name)
    drawn = "return [...document.querySelectorAll('figure.chart[id]')].map((figure) => [figure.id, "
    drawn += "figure.querySelectorAll('.trace, .heatmaplayer image').length])"
    found = dict(browser.execute_script(drawn))
    assert list(found) == [f"chart-{chart}" for chart in charts]
    assert all(found.values())


def test_the_loss_chart_has_both_sides_the_gap_and_the_envelope(show):
    browser = show("run")
    legend = "return [...document.querySelectorAll('#chart-losses .legendtext')].map((entry) => entry.textContent)"
    expected = ["honest", HOSTILE, "the envelope allows", "gap of the losses", "gap of the parameters"]
    assert browser.execute_script(legend) == expected


def title(browser):
    return browser.find_element("css selector", ".detail-title").text


def test_the_list_looks_into_a_tensor_by_keyboard(show):
    from selenium.webdriver.common.keys import Keys

    browser = show("differs")
    before = title(browser)
    select = browser.find_element("css selector", ".choose")
    select.send_keys(Keys.ARROW_UP)
    after = title(browser)
    assert after != before
    assert after == select.find_element("css selector", "option:checked").text
    settle(browser)
    assert browser.find_elements("css selector", ".detail-chart .trace.bars .point")


def test_a_click_on_the_heat_map_looks_into_its_tensor(show):
    from selenium.webdriver import ActionChains

    browser = show("differs")
    ladder = browser.find_element("css selector", "#chart-ladder .nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", ladder)
    labels = [option.text for option in browser.find_elements("css selector", ".choose option")]
    height = ladder.size["height"]
    row = labels.index("gradients, fc1.weight")
    offset = round((row + 0.5) / len(labels) * height - height / 2)
    ActionChains(browser).move_to_element_with_offset(ladder, 20, offset).pause(0.3).click().perform()
    assert title(browser) == "gradients, fc1.weight"
    assert browser.find_element("css selector", ".choose option:checked").text == "gradients, fc1.weight"
    assert browser.find_element("css selector", ".detail").rect["y"] == pytest.approx(
        browser.execute_script("return window.scrollY") + 8, abs=1
    )


def test_a_click_on_a_cell_says_which_step_is_shown(show):
    """Elements are kept of one step of a tensor; a cell of another step has its figures, and says whose elements."""
    from selenium.webdriver import ActionChains

    browser = show("match")
    entries = json.loads(browser.find_element("css selector", "script.entries").get_attribute("textContent"))
    columns = json.loads(browser.find_element("css selector", "script.columns").get_attribute("textContent"))
    ladder = browser.find_element("css selector", "#chart-ladder .nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", ladder)
    row = len(entries) // 2
    down = round((row + 0.5) / len(entries) * ladder.size["height"] - ladder.size["height"] / 2)
    for column in (0, 1):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", ladder)
        along = round((column + 0.5) / len(columns) * ladder.size["width"] - ladder.size["width"] / 2)
        ActionChains(browser).move_to_element_with_offset(ladder, along, down).pause(0.3).click().perform()
        note = browser.find_element("css selector", ".detail-cell").text
        other = columns[column] != entries[row]["shown"]
        assert (f"You chose {columns[column]}: " in note) == other
        assert (f"The elements here are of {entries[row]['shown']}." in note) == other


@pytest.mark.parametrize("name", ["run", "differs"])
def test_a_click_on_a_name_looks_into_its_tensor(show, name):
    from selenium.webdriver import ActionChains

    browser = show(name)
    labels = [option.text for option in browser.find_elements("css selector", ".choose option")]
    for number in (0, len(labels) - 1):
        tick = browser.find_elements("css selector", ".explorer .chart[id] .ytick text")[number]
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", tick)
        ActionChains(browser).move_to_element(tick).click().perform()
        assert title(browser) == labels[number]
    assert browser.get_log("browser") == []


def test_every_tensor_of_a_match_has_its_elements(show):
    """Also where it is worst in the step full of ties, or in the outputs; none of the page's entries is empty."""
    entries = json.loads(show("match").find_element("css selector", "script.entries").get_attribute("textContent"))
    assert "the outputs after the steps" in {entry["shown"] for entry in entries}
    assert [entry["label"] for entry in entries if not any(name == "Shape" for name, _ in entry["facts"])] == []


def test_elements_that_are_no_numbers_are_counted_and_stop_nothing(show):
    """They have no histogram; of the tensor all else is equal, so that there is none at all."""
    browser = show("not-finite")
    assert browser.find_element("css selector", ".detail-title").text.startswith("gradients, ")
    facts = browser.find_element("css selector", ".detail-facts").text
    assert "1 of" in facts.split("Elements that are not finite")[1]
    assert "Relative difference\nnot finite; " in browser.find_element("id", "where-and-why").text
    assert not browser.find_element("css selector", ".detail-chart").is_displayed()
    assert browser.find_elements("css selector", ".detail-chart svg") == [], "nothing was drawn where nothing shows"
    assert browser.find_element("css selector", ".copy").is_displayed(), "the end of the script was reached"


def test_a_chart_that_cannot_be_drawn_stops_nothing(show, files, tmp_path):
    """The rest of the page works; in the chart's place there is a sentence."""
    text = files["run"].read_text(encoding="utf-8")
    broken = text.replace(
        '"use strict";\n(() => {',
        "const react = Plotly.react; Plotly.react = (plot, ...rest) => "
        '{ if (plot.closest("#chart-losses, #chart-tensors")) throw new Error("on purpose"); '
        "return react(plot, ...rest); };\n(() => {",
    )
    assert broken != text
    files["broken"] = tmp_path / "broken.html"
    files["broken"].write_text(broken, encoding="utf-8")
    browser = show("broken", wait=False)
    assert "could not be drawn: on purpose" in browser.find_element("id", "chart-losses").text
    assert browser.find_elements("css selector", "#chart-classes .trace")
    assert browser.find_element("css selector", ".copy").is_displayed()


def test_the_first_tensor_shown_is_the_one_that_breaks(show):
    browser = show("differs")
    assert title(browser) == "update, conv1.weight"
    cells = browser.find_elements("css selector", ".detail-table tbody tr")
    assert len(cells) == 12
    index, a, b, difference = (cell.text for cell in cells[0].find_elements("xpath", "./*"))
    assert index.startswith("[")
    assert float(difference) == pytest.approx(float(a) - float(b), rel=1e-2)


CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = rgb(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
  }
  return null;
};
const texts = "h1, h2, h3, p, dt, dd, th, td, a, button, figcaption, caption, summary, label, code, footer, .kicker";
return [...document.querySelectorAll(texts)].filter((element) => element.textContent.trim()).map((element) => {
  const pair = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
  return [(pair[0] + 0.05) / (pair[1] + 0.05), element.tagName + " " + element.textContent.trim().slice(0, 40)];
});
"""


@pytest.mark.parametrize("name", ALL)
def test_both_themes_are_legible(show, name):
    browser = show(name)
    grounds, charts = [], []
    for _ in range(2):
        worst = min(browser.execute_script(CONTRAST))
        assert worst[0] >= 4.5, worst
        grounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        text = "return getComputedStyle(document.querySelector('.plot .xtick text')).fill"
        charts.append(browser.execute_script(text))
        browser.find_element("id", "theme").click()
        settle(browser)
    assert len(set(grounds)) == len(set(charts)) == 2


def test_the_theme_is_the_systems_at_first(show, chromium):
    themes = []
    for wanted in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": wanted}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        themes.append(show("match").execute_script("return document.documentElement.dataset.theme"))
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert themes == ["dark", "light"]


@pytest.fixture
def dark(chromium):
    """The system's theme."""
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    yield
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.usefixtures("dark")
def test_the_theme_is_there_before_anything_is_drawn(show, files, tmp_path):
    """A page that is painted in the other theme first would flash; the script that draws never comes to run here."""
    text = files["match"].read_text(encoding="utf-8")
    stopped = text.replace('"use strict";\n(() => {', '"use strict";\nthrow new Error("on purpose");\n(() => {')
    assert stopped != text
    files["stopped"] = tmp_path / "stopped.html"
    files["stopped"].write_text(stopped, encoding="utf-8")
    browser = show("stopped", wait=False)
    assert browser.find_elements("css selector", ".plot svg") == []
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"


def test_the_button_says_what_it_does_and_the_page_remembers(show):
    browser = show("match")
    button = browser.find_element("id", "theme")
    theme = browser.execute_script("return document.documentElement.dataset.theme")
    other = {"light": "dark", "dark": "light"}[theme]
    assert button.text == f"{other.capitalize()} theme"
    button.click()
    assert button.text == f"{theme.capitalize()} theme"
    browser.refresh()
    settle(browser)
    assert browser.execute_script("return document.documentElement.dataset.theme") == other
    assert browser.find_element("id", "theme").text == f"{theme.capitalize()} theme"


def test_the_command_is_one_line_that_scrolls(show):
    """Broken at a hyphen it would read as another command."""
    browser = show("match")
    size = {"width": 375, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    pre = browser.find_element("css selector", ".code pre")
    style = "const s = getComputedStyle(arguments[0]); return [s.whiteSpace, s.overflowX]"
    assert browser.execute_script(style, pre) == ["pre", "auto"]


@pytest.mark.parametrize("name", ALL)
def test_a_phone_scrolls_in_one_direction(show, name):
    browser = show(name)
    size = {"width": 375, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.refresh()
    settle(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 375


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_for_axe_to_find(show, name):
    from axe_core_python.selenium import Axe

    browser = show(name)
    for details in browser.find_elements("css selector", "details"):
        browser.execute_script("arguments[0].open = true", details)
    found = Axe().run(browser)["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]][:3]) for rule in found] == []


def test_text_with_markup_stays_text(show):
    """A class, a side and a path that would run a script, if they were taken for markup: see `pages`."""
    browser = show("run")
    assert HOSTILE in browser.find_element("tag name", "h1").text
    assert PATH in browser.find_element("css selector", ".code").text
    ticks = browser.find_elements("css selector", "#chart-classes .ytick")
    assert sorted(tick.text for tick in ticks) == sorted(short(name) for name in CLASSES)
    assert browser.find_elements("css selector", "img[src='x'], b") == []
    sections, links = (browser.find_elements("css selector", what) for what in ("section", ".contents a"))
    assert len(sections) == len(links) == 8


def test_keys_alone_reach_the_report(show):
    from selenium.webdriver.common.keys import Keys

    browser = show("match")
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the report"
    assert skip.rect["y"] >= 0
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"
