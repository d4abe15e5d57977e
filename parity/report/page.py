"""What a page is made of: a verdict, and sections of blocks. Nothing here knows HTML.

A command's report is a function from its result to a `Page`; `parity.report.document` turns any page into HTML. Text is
text: the templates escape it, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = [
    "DIFFERS",
    "MATCH",
    "STOPPED",
    "TRAINED",
    "UNDECIDED",
    "Block",
    "Chart",
    "Charts",
    "Choice",
    "Code",
    "Explorer",
    "Fact",
    "Facts",
    "Gallery",
    "Headline",
    "Page",
    "Picture",
    "Section",
    "Table",
    "Text",
]

MATCH, DIFFERS, UNDECIDED, STOPPED, TRAINED = "match", "differs", "undecided", "stopped", "trained"
"""What a headline can say: each has a colour, a sign and a word of its own."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The verdict.

    Args:
        kind: one of MATCH, DIFFERS, UNDECIDED, STOPPED, and TRAINED, which is no verdict.
        sentence: in one sentence.
        detail: what it rests on, in one more; "" for none.
        word: beside the sign; "" for the kind's own.
    """

    kind: str
    sentence: str
    detail: str = ""
    word: str = ""


class Block:
    """A part of a section; `template` is the macro in blocks.html that draws it."""

    template: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class Text(Block):
    """Paragraphs."""

    template = "text"
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A name and what it is; `mono` for what is to be read letter by letter."""

    name: str
    value: str
    mono: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts(Block):
    """Names and values, one below the other."""

    template = "facts"
    facts: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True)
class Table(Block):
    """A table; the first cell of a row is its heading.

    Args:
        caption: what it shows.
        columns: their headings.
        rows: cells as text, as many as columns.
        folded: whether it is shown only when asked for.
    """

    template = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart(Block):
    """A Plotly figure.

    Args:
        name: unique in the page.
        figure: {"data": ..., "layout": ...} as Plotly takes it. Colours are the page's, by name: "var(--a)".
        caption: what it shows, and what was left out.
        alt: the same for those who do not see it: what is to be read off.
        height: in pixels.
    """

    template = "chart"
    name: str
    figure: Mapping[str, Any] = field(repr=False)
    caption: str
    alt: str
    height: int = 320


@dataclass(frozen=True, kw_only=True)
class Charts(Block):
    """Charts side by side, as far as there is room."""

    template = "charts"
    charts: tuple[Chart, ...]


@dataclass(frozen=True, kw_only=True)
class Choice(Block):
    """Several charts of which one is shown, and a list to choose from.

    Args:
        name: unique in the page.
        legend: what the list holds.
        options: a name in the list and its chart each; the first is shown at first.
    """

    template = "choice"
    name: str
    legend: str
    options: tuple[tuple[str, Chart], ...]


@dataclass(frozen=True, kw_only=True)
class Explorer(Block):
    """A heat map whose rows are tensors, and a list beside it; the one chosen in either is shown below.

    Args:
        chart: the heat map. Its rows are the entries, in their order.
        legend: what the list holds.
        entries: {"label", "facts": [[name, value]], "note", "shown", "edges", "counts",
            "rows": [[index, a, b, difference]]} each; "shown" is the column that the elements are of. A tensor without
            "counts" has no histogram, one without "rows" no table.
        sides: what a and b are.
        chosen: the entry shown at first.
        columns: the heat map's columns in words.
    """

    template = "explorer"
    chart: Chart
    legend: str
    entries: tuple[Mapping[str, Any], ...]
    sides: tuple[str, str]
    chosen: int = 0
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A small PNG as a data URI, with what it shows and lines below it; `marked` where it is to be noticed."""

    uri: str = field(repr=False)
    alt: str
    lines: tuple[tuple[str, str], ...]
    marked: bool = False


@dataclass(frozen=True, kw_only=True)
class Gallery(Block):
    """Pictures side by side."""

    template = "gallery"
    pictures: tuple[Picture, ...]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Code(Block):
    """Lines to copy."""

    template = "code"
    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what is below it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def slug(self) -> str:
        """The heading as the end of an address."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report.

    Args:
        kicker: what this is a report of, above the verdict.
        title: of the window.
        headline: the verdict.
        sections: in the order in which a reader asks.
    """

    kicker: str
    title: str
    headline: Headline
    sections: tuple[Section, ...]

    @property
    def has_charts(self) -> bool:
        """Whether Plotly is needed."""
        drawn = (Chart, Charts, Choice, Explorer)
        return any(isinstance(block, drawn) for part in self.sections for block in part.blocks)
