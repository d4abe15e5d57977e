"""What the reports of several commands have in common."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from parity.environment import Environment
from parity.explain import Explanation
from parity.report.page import DIFFERS, MATCH, UNDECIDED, Code, Fact, Facts, Headline, Section, Table, Text

__all__ = ["cause_blocks", "environment_section", "headline", "reproduce_section"]

_VERBS = {"match": ("match", MATCH), "differs": ("differ", DIFFERS)}


def headline(line: str, names: Sequence[str]) -> Headline:
    """A verdict line ("differs in formula at step 2, loss: ...") as a sentence about the two sides, and the rest.

    >>> headline("differs at step 2, loss: 3 ulp", ("a", "b")).sentence
    'a and b differ at step 2, loss'
    """
    head, _, detail = line.partition(": ")
    word, _, rest = head.partition(" ")
    pair = " and ".join(names)
    rest = f" {rest}" if rest else ""
    if word in _VERBS:
        verb, kind = _VERBS[word]
        return Headline(kind=kind, sentence=f"{pair} {verb}{rest}", detail=_capital(detail))
    return Headline(kind=UNDECIDED, sentence=f"It is undecided whether {pair} match{rest}", detail=_capital(detail))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith("float") else text


def cause_blocks(explanation: Explanation | None) -> tuple[Table | Text, ...]:
    """The causes as a table, and what has none as text."""
    if explanation is None:
        return ()
    rows = tuple(
        (str(cause), f"step {cause.step}, {cause.place}", f"{cause.before:.1e}", f"{cause.residual:.1e}")
        for cause in explanation.causes
    )
    columns = ("cause", "seen first at", "from the formula", "with this cause")
    found = (Table(caption="Causes, in the order of the stages", columns=columns, rows=rows),) if rows else ()
    unknown = tuple(map(str, explanation.unknown))
    return (*found, *((Text(lines=unknown),) if unknown else ()))


def environment_section(environment: Environment, facts: Sequence[Fact]) -> Section:
    """Versions and hardware, after what is known of the run itself."""
    versions = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    variables = ", ".join(f"{name}={value}" for name, value in environment.variables.items())
    machine = (
        Fact(name="Packages", value=versions),
        Fact(name="Python", value=environment.python),
        Fact(name="Processor", value=f"{environment.processor}, {environment.cores} cores in use"),
        Fact(name="System", value=environment.system),
        Fact(name="Environment variables", value=variables or "none that change how the frameworks compute"),
    )
    return Section(title="Environment", blocks=(Facts(facts=(*facts, *machine)),))


def reproduce_section(command: Sequence[str]) -> Section:
    """The command to type."""
    if not command:
        text = "It was called from Python: there is no command line to repeat it."
        return Section(title="Reproduce", blocks=(Text(lines=(text,)),))
    label = "The command that made this report"
    return Section(title="Reproduce", blocks=(Code(text=shlex.join(command), label=label),))
