"""docs/ builds without a warning, and what is built loads nothing from elsewhere. Needs the extra [docs]."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES

for extra in ("furo", "latex2mathml", "myst_parser", "sphinx", "sphinx_click", "sphinx_copybutton", "sphinx_design"):
    pytest.importorskip(extra, reason="the extra [docs] is not installed")


def build(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build as .ci/run does."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", folder, out],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages, built."""
    out = tmp_path_factory.mktemp("site")
    done = build(DOCS, out)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_every_page_is_built(site):
    for page in PAGES:
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="(?:https?:)?//""")
    for page in site.rglob("*.html"):
        assert not loads.search(page.read_text()), page


def test_formulas_are_drawn_by_the_browser(site):
    page = (site / "explanation.html").read_text()
    assert page.count("<math") > 20
    assert "\\frac" not in page


def test_every_command_and_option_is_in_the_reference(site):
    from parity.cli import cli

    page = (site / "reference" / "cli.html").read_text()
    for name, command in cli.commands.items():
        assert f"parity-{name}" in page
        for option in command.params:
            assert all(name in page for name in option.opts if name.startswith("--"))


def test_public_names_are_in_the_reference(site):
    import parity
    from parity import contract, testing

    pages = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    for module in (parity, contract, testing):
        for name in module.__all__:
            assert re.search(rf'id="[\w.]+\.{name}"', pages), name
    assert 'id="torch_impl.adapt"' in pages
    assert 'id="jax_impl.adapt"' in pages


def test_a_link_or_a_name_that_leads_nowhere_fails_the_build(tmp_path):
    (tmp_path / "conf.py").write_text((DOCS / "conf.py").read_text().replace("Path(__file__).parents[1]", "Path()"))
    (tmp_path / "index.md").write_text("# A\n\n[b](c.md), {py:func}`parity.no_such_function`\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    assert "c.md" in done.stderr
    assert "parity.no_such_function" in done.stderr
