"""The page of a command that has no result: it is at work, was interrupted, or a side broke; or that has no page."""

from __future__ import annotations

from collections.abc import Sequence

from parity.environment import describe_environment
from parity.report.common import environment_section, reproduce_section
from parity.report.page import STOPPED, Headline, Page

__all__ = ["stopped_page"]


def stopped_page(command: Sequence[str], names: Sequence[str], why: str, *, verdict: str = "") -> Page:
    """No verdict, and why there is none; or the verdict alone, and why there is nothing else."""
    pair = " and ".join(names)
    sentence, word = f"There is no result for {pair}", ""
    if verdict:
        sentence, word = f"{pair}: {verdict}", "Verdict alone"
        why = f"The page with everything else could not be made. {why}"
    return Page(
        kicker=pair,
        title=f"parity: {pair}",
        headline=Headline(kind=STOPPED, sentence=sentence, detail=why, word=word),
        sections=(environment_section(describe_environment(), ()), reproduce_section(command)),
    )
