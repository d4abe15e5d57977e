"""A page as HTML: one file with everything in it, or a fragment for notebooks.

Templates are Jinja's, with every text escaped. What goes into a <script> is JSON in which <, >, & and ' are written as
escapes, so that no text can end the script. A policy in the page itself forbids everything that is not in it:
a report never asks the network for anything.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from parity.report.page import Block, Explorer, Page

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


LIMIT = 6_000_000
"""Bytes of a page: what goes through any mail, and opens on a phone."""

LEFT_OUT = f"Its elements are left out: with them the page would be larger than {LIMIT // 1_000_000} MB."


def document_of(page: Page) -> str:
    """The page as a file that opens anywhere, also without a network; of a large one without the heaviest details."""
    text = _rendered(page)
    surplus = len(text.encode()) - LIMIT
    return text if surplus <= 0 else _rendered(_lightened(page, surplus))


def _lightened(page: Page, surplus: int) -> Page:
    """Without the elements of as many tensors as it takes, the heaviest first; each says so."""
    explorers = [block for part in page.sections for block in part.blocks if isinstance(block, Explorer)]
    heavy = sorted(
        ((len(json.dumps(entry)), id(entry)) for explorer in explorers for entry in explorer.entries), reverse=True
    )
    dropped: set[int] = set()
    for size, entry in heavy:
        if surplus <= 0:
            break
        dropped.add(entry)
        surplus -= size - len(LEFT_OUT) - _KEPT
    sections = tuple(
        replace(part, blocks=tuple(_without(block, dropped) for block in part.blocks)) for part in page.sections
    )
    return replace(page, sections=sections)


_KEPT = 1000
"""Characters of an entry that stay, at most about: its facts."""


def _without(block: Block, dropped: set[int]) -> Block:
    if not isinstance(block, Explorer):
        return block
    light = {"note": LEFT_OUT, "edges": (), "counts": (), "rows": ()}
    entries = tuple({**entry, **light} if id(entry) in dropped else entry for entry in block.entries)
    return replace(block, entries=entries)


def _rendered(page: Page) -> str:
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
