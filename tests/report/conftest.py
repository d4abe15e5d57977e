"""A headless Chromium, where one is installed, and the pages that it is shown; each is made once."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from parity import oracle
from parity.report import html
from tests.report import pages

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1200,900", "--force-prefers-reduced-motion"),
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """One process for all tests, offline in any case: its name server is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as running:
        running.set_script_timeout(60)
        yield running


@pytest.fixture(scope="session")
def run_report():
    return pages.run()


@pytest.fixture(scope="session")
def files(tmp_path_factory, run_report):
    """A run, a check that differs and one that does not, as files."""
    folder = tmp_path_factory.mktemp("pages")
    result, dataset = run_report
    made = {
        "run": html(result.report, run=result.run, dataset=dataset),
        "differs": html(pages.checked(pages.Faulty(), pages.HOSTILE)),
        "match": html(pages.with_rounding(pages.checked(oracle.impl))),
        "not-finite": html(pages.checked(pages.NotFinite())),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def show(chromium, files):
    """Open a page as a reader does, from a file; what the browser logged before is thrown away."""

    def opened(name, *, wait=True):
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        # A page remembers its theme, and pages from files share what they remember.
        if chromium.current_url.startswith("file:"):
            chromium.execute_script("sessionStorage.clear()")
        chromium.get("about:blank")
        chromium.get_log("browser"), chromium.get_log("performance")
        chromium.get(files[name].as_uri())
        if wait:
            settle(chromium)
        return chromium

    return opened


def settle(browser, *, seconds=20.0):
    """Wait until every chart that is shown has been drawn."""
    undrawn = "return [...document.querySelectorAll('figure.chart:not([hidden]) .plot')]"
    undrawn += ".filter((plot) => !plot.querySelector('svg.main-svg')).length"
    end = time.monotonic() + seconds
    while browser.execute_script(undrawn):
        assert time.monotonic() < end, "a chart was not drawn"
        time.sleep(0.05)


def requests(browser):
    """The addresses that the page asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
