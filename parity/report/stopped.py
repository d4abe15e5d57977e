"""The page of a command that has no result: it is at work, was interrupted, or a side broke."""

from __future__ import annotations

from collections.abc import Sequence

from parity.environment import describe_environment
from parity.report.common import environment_section, reproduce_section
from parity.report.page import STOPPED, Headline, Page

__all__ = ["stopped_page"]


def stopped_page(command: Sequence[str], names: Sequence[str], why: str) -> Page:
    """No verdict, and why there is none."""
    pair = " and ".join(names)
    return Page(
        kicker=pair,
        title=f"parity: {pair}",
        headline=Headline(kind=STOPPED, sentence=f"There is no result for {pair}", detail=why),
        sections=(environment_section(describe_environment(), ()), reproduce_section(command)),
    )
