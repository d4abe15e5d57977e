"""The page of a drill: which of the planted faults a check finds, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parity.drill import Drilled, Rates
from parity.report.common import environment_section, reproduce_section
from parity.report.figures import figure
from parity.report.ladder import heat_layout
from parity.report.page import DIFFERS, MATCH, Block, Chart, Explorer, Fact, Facts, Headline, Page, Section, Table
from parity.result import DrillReport

__all__ = ["drill_page"]

ROW = 19

QUESTIONS = ("found", "stage", "in time", "named")
"""What is asked of each fault: found, at the right stage, no later than at the first step that can show it, named."""

GROUPS = {"catalogue": "known porting mistakes", "outside": "no entry of the catalogue, so that it has no name"}

_RIGHT, _WRONG = 1, 0


def drill_page(report: DrillReport) -> Page:
    """Everything that is known at the end of a drill."""
    sections = (
        _rates(report.rates),
        *_not_right(report.results),
        *_faults(report),
        *_benign(report.results),
        *_left_out(report.results),
        _environment(report),
        reproduce_section(report.command),
    )
    return Page(
        kicker=f"drill of {report.implementation}",
        title=f"parity: drill of {report.implementation}",
        headline=_headline(report),
        sections=sections,
    )


def _headline(report: DrillReport) -> Headline:
    rates = report.rates
    sentence = "; ".join(_sentences(rates, report.implementation))
    detail = ". ".join(_details(rates))
    kind, word = (MATCH, "All found") if rates.complete else (DIFFERS, "Not all found")
    if not rates.faults:
        word = "No false alarm" if rates.complete else "False alarm"
    elif rates.detected == rates.faults and not rates.complete:
        word = "Found, but not all as expected"
    return Headline(kind=kind, sentence=sentence, detail=f"{detail}." if detail else "", word=word)


def _sentences(rates: Rates, name: str) -> Iterator[str]:
    """What was found, and what was not as it should be."""
    if rates.faults:
        planted = f"{rates.faults} faults planted in {name}" if rates.faults > 1 else f"fault planted in {name}"
        if rates.detected == rates.faults:
            yield f"All {planted} are found" if rates.faults > 1 else f"The {planted} is found"
        else:
            yield f"{rates.faults - rates.detected} of {planted} {_be(rates.faults - rates.detected)} not found"
        moved = max(rates.detected - rates.right_stage, rates.detected - rates.in_time)
        if moved:
            yield f"{moved} {_be(moved)} found in another place or too late"
        elif rates.detected:
            yield "each at its stage, and within the first step that can show it"
    if rates.false_alarms:
        yield f"{rates.false_alarms} of {rates.benign} changes that are no fault are called one"
    elif rates.benign and not rates.faults:
        yield f"None of {rates.benign} changes that are no fault is called one in {name}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _details(rates: Rates) -> Iterator[str]:
    if rates.nameable:
        yield f"Called by its name: {_share(rates.named, rates.nameable)}"
    if rates.outside:
        known, unknown = rates.outside_named, rates.outside_unknown
        outside = f"Of {rates.outside} faults outside the catalogue"
        yield f"{outside}, {unknown} called unknown and {known} by a name that fits"
    if rates.benign and rates.faults:
        yield f"False alarms: {rates.false_alarms} of {rates.benign}"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)"


def _rates(rates: Rates) -> Section:
    """The counts as shares."""
    counted = (
        ("Detected", rates.detected, rates.faults),
        ("At the right stage", rates.right_stage, rates.faults),
        ("In the first step that can show it, or before", rates.in_time, rates.faults),
        ("Known mistakes: called by their names", rates.named, rates.nameable),
        ("Outside the catalogue: called unknown", rates.outside_unknown, rates.outside),
        ("Outside the catalogue: called by a name that fits", rates.outside_named, rates.outside),
        ("False alarms on changes that are no fault", rates.false_alarms, rates.benign),
    )
    facts = tuple(Fact(name=name, value=_share(part, whole)) for name, part, whole in counted if whole)
    return Section(title="Rates", blocks=(Facts(facts=facts),))


def _not_right(results: Sequence[Drilled]) -> tuple[Section, ...]:
    """What a reader has to look at; nothing where all is as it should be."""
    wrong = [result for result in results if not result.right]
    unnamed = [result for result in results if result.applies and result.right and result.named is False]
    blocks: list[Block] = []
    if wrong:
        columns = ("fault", "side", "what it is", "outcome", "expected", "seen at", "verdict")
        rows = tuple(
            (
                each.key,
                each.side,
                each.title,
                _outcome(each),
                each.expected or "no difference, and no name",
                _seen(each) or "nowhere",
                each.line,
            )
            for each in sorted(wrong, key=lambda result: result.found)
        )
        blocks.append(Table(caption="Not as it should be; what was missed comes first", columns=columns, rows=rows))
    if unnamed:
        heads = ("fault", "side", "what it is", "called", "seen at")
        called = tuple((e.key, e.side, e.title, ", ".join(e.names) or "nothing", _seen(e)) for e in unnamed)
        blocks.append(Table(caption="Found, but called something else", columns=heads, rows=called))
    title = "Missed" if any(not each.found and each.group != "benign" for each in wrong) else "Not as expected"
    return (Section(title=title, blocks=tuple(blocks)),) if blocks else ()


def _outcome(result: Drilled) -> str:
    """In a word or two."""
    if not result.applies:
        return "no place"
    if result.group == "benign":
        return "matches" if result.right else "false alarm"
    if not result.found:
        return "missed"
    late = () if result.in_time else ("too late",)
    elsewhere = () if result.stage_right else ("at another stage",)
    return ", ".join(("found", *elsewhere, *late))


def _seen(result: Drilled) -> str:
    return f"step {result.step}, {result.at}" if result.at and result.step is not None else result.at


def _faults(report: DrillReport) -> tuple[Section, ...]:
    """Every fault as a row of a heat map, and what is known of the one that is chosen."""
    planted = [result for result in report.results if result.applies and result.group != "benign"]
    if not planted:
        return ()
    by_key: dict[str, list[Drilled]] = {}
    for result in planted:
        by_key.setdefault(result.key, []).append(result)
    # Python sorts stably: of what is equally right the catalogue's order stays.
    rows = sorted(by_key.values(), key=lambda results: min(map(_rightness, results)))
    explorer = Explorer(
        chart=_heat_map(rows, list(dict.fromkeys(result.side for result in planted))),
        legend="Look into a fault:",
        entries=tuple(map(_entry, rows)),
        sides=(report.implementation, report.partner),
    )
    return (Section(title="Fault by fault", blocks=(explorer, _table(rows))),)


def _rightness(result: Drilled) -> tuple[bool, ...]:
    """What was missed sorts first."""
    return result.found, result.stage_right, result.in_time, result.named is not False


def _answers(result: Drilled) -> tuple[bool | None, ...]:
    """To QUESTIONS; None where it does not arise."""
    if not result.found:
        return False, None, None, None
    return True, result.stage_right, result.in_time, result.named


def _heat_map(rows: Sequence[Sequence[Drilled]], sides: Sequence[str]) -> Chart:
    labels = [results[0].key for results in rows]
    columns = [question if len(sides) == 1 else f"{question} ({side})" for question in QUESTIONS for side in sides]
    answers = [[_answer(results, side, n) for n in range(len(QUESTIONS)) for side in sides] for results in rows]
    trace = {
        "type": "heatmap",
        "z": [[None if answer is None else int(answer) for answer in row] for row in answers],
        "x": columns,
        "y": labels,
        "text": [[{True: "✓", False: "✗", None: ""}[answer] for answer in row] for row in answers],
        "texttemplate": "%{text}",
        "customdata": [[_seen(_of_side(results, side)) for _ in QUESTIONS for side in sides] for results in rows],
        "hovertemplate": "%{y}<br>%{x}: %{text}<br>%{customdata}<extra></extra>",
        "zmin": _WRONG,
        "zmax": _RIGHT,
        "colorscale": [(0, "var(--over)"), (0.5, "var(--over)"), (0.5, "var(--mid)"), (1, "var(--mid)")],
        "showscale": False,
        "xgap": 2,
        "ygap": 1,
    }
    layout = heat_layout(labels, "") | {"margin": {"l": 10, "r": 14, "t": 34, "b": 10}}
    layout["xaxis"] |= {"side": "top", "automargin": True}
    missed = [results[0].key for results in rows if not all(result.found for result in results)]
    return Chart(
        name="faults",
        figure=figure([trace], layout),
        caption="What a check makes of each fault: whether it is found, at the stage where it can first be seen, no "
        "later than in the first step that can show it, and called by its name. ✗ is no; empty where the question does "
        "not arise. What is not right comes first, then the catalogue's order. A click on a row looks into its fault, "
        "and so does the list below.",
        alt=f"Heat map of {len(labels)} faults over {len(columns)} columns. "
        + (f"Not found: {', '.join(missed)}." if missed else "All are found."),
        height=ROW * len(labels) + 70,
    )


def _of_side(results: Sequence[Drilled], side: str) -> Drilled:
    return next((result for result in results if result.side == side), results[0])


def _answer(results: Sequence[Drilled], side: str, question: int) -> bool | None:
    return next((_answers(result)[question] for result in results if result.side == side), None)


def _entry(results: Sequence[Drilled]) -> Mapping[str, Any]:
    """A fault as the explorer shows it: on each side that it was planted on."""
    first = results[0]
    facts = [("What it is", first.title), ("Group", GROUPS[first.group]), ("Can first be seen at", first.expected)]
    for result in results:
        on = f" (side {result.side})" if len(results) > 1 else ""
        facts += [
            (f"Outcome{on}", f"{_outcome(result)}; {result.seconds:.1f} s"),
            (f"Seen at{on}", _seen(result) or "nowhere"),
            (f"Called{on}", ", ".join(result.names) or "nothing"),
            (f"Verdict{on}", result.line),
        ]
    return {"label": first.key, "facts": facts, "note": "", "edges": (), "counts": (), "rows": ()}


def _table(rows: Sequence[Sequence[Drilled]]) -> Table:
    cells = tuple(
        (
            result.key,
            result.side,
            result.title,
            _outcome(result),
            result.expected,
            _seen(result),
            ", ".join(result.names) + ("" if result.named is not False else " (not its name)"),
        )
        for results in rows
        for result in results
    )
    columns = ("fault", "side", "what it is", "outcome", "expected", "seen at", "called")
    return Table(caption="Every fault", columns=columns, rows=cells, folded=True)


def _benign(results: Sequence[Drilled]) -> tuple[Section, ...]:
    """Changes that must be called nothing."""
    rows = tuple(
        (result.key, result.side, result.title, _outcome(result), result.line)
        for result in sorted(results, key=lambda result: result.right)
        if result.applies and result.group == "benign"
    )
    if not rows:
        return ()
    columns = ("change", "side", "what it is", "outcome", "verdict")
    table = Table(caption="They must match, and be called nothing", columns=columns, rows=rows)
    return (Section(title="Changes that are no fault", blocks=(table,)),)


def _left_out(results: Sequence[Drilled]) -> tuple[Section, ...]:
    rows = tuple((result.key, result.side, result.line) for result in results if not result.applies)
    if not rows:
        return ()
    table = Table(caption="Not drilled, and not counted", columns=("fault", "side", "why"), rows=rows, folded=True)
    return (Section(title="No place in this program", blocks=(table,)),)


def _environment(report: DrillReport) -> Section:
    facts = (
        Fact(name="With a fault", value=report.implementation),
        Fact(name="Honest, beside it", value=report.partner),
        Fact(name="Data", value=report.data),
        Fact(name="Took", value=f"{sum(result.seconds for result in report.results):,.0f} s of checks"),
    )
    return environment_section(report.environment, facts)
