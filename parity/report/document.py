"""A page as HTML: one file with everything in it, or a fragment for notebooks.

Templates are Jinja's, with every text escaped. What goes into a <script> is JSON in which <, >, & and ' are written as
escapes, so that no text can end the script. A policy in the page itself forbids everything that is not in it:
a report never asks the network for anything.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING, Any

from parity.report.page import Page

if TYPE_CHECKING:
    import jinja2

__all__ = ["document_of", "fragment_of"]

SIGNS = {
    "match": ("✓", "Match"),
    "differs": ("✗", "Differs"),
    "undecided": ("?", "Undecided"),
    "stopped": ("■", "Stopped"),
    "trained": ("✓", "Trained"),
}
"""A sign and a word for each kind of headline: its colour is not all there is."""


def document_of(page: Page) -> str:
    """The page as a file that opens anywhere, also without a network."""
    return (
        _environment()
        .get_template("page.html")
        .render(page=page, signs=SIGNS, style=_asset("report.css"), script=_asset("report.js"), plotly=_plotly(page))
    )


def fragment_of(page: Page) -> str:
    """The verdict and the tables, without any script: for a notebook's cell."""
    return _environment().get_template("fragment.html").render(page=page, signs=SIGNS, style=_asset("fragment.css"))


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # only where a page is made

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("parity.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _asset(name: str) -> Any:
    """A file of ours that goes into the page as it is."""
    from markupsafe import Markup

    # Nothing of the user's is in it.
    return Markup(resources.files("parity.report").joinpath("templates", name).read_text("utf-8"))  # noqa: S704


def _plotly(page: Page) -> Any:
    """Plotly's own program, 4.8 MB; empty for a page without charts."""
    from markupsafe import Markup

    if not page.has_charts:
        return Markup("")
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())  # noqa: S704  made to stand inside a <script>
