"""The page of a run: of two sides with its verdict, or of one alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity.compare import BOUND, Gap
from parity.data import Dataset
from parity.render.terminal import EXTRAS
from parity.report.classes import accuracy_section
from parity.report.common import environment_section, headline, reproduce_section
from parity.report.curves import loss_section
from parity.report.figures import counted, finite
from parity.report.page import STOPPED, TRAINED, Block, Fact, Facts, Headline, Page, Section, Table, Text
from parity.report.samples import sample_section
from parity.report.tensors import tensor_section
from parity.result import Report
from parity.running.history import Run

__all__ = ["training_page"]


def training_page(report: Report, run: Run | None, dataset: Dataset | None) -> Page:
    """Everything that is known at the end of a run.

    Args:
        report: of the run.
        run: its arrays; None where they are gone.
        dataset: that it used; None for no images.
    """
    names = " and ".join(side.name for side in report.sides)
    sections = (
        *_where(report),
        loss_section(report, run),
        *(tensor_section(run) if run else ()),
        accuracy_section(report, run, dataset),
        *(sample_section(run, dataset) if run and dataset else ()),
        _speed(report),
        *_exact(report),
        _environment(report),
        reproduce_section(report.command),
    )
    return Page(kicker=f"run of {names}", title=f"parity: {names}", headline=_headline(report), sections=sections)


def _headline(report: Report) -> Headline:
    names = [side.name for side in report.sides]
    ending = report.ending
    if ending.kind != "complete":
        so_far = f"So far: {report.judgement.line}." if report.judgement else "There is no verdict."
        why = f"{_sentence(ending.detail, names)}. " if ending.detail else ""
        sentence = f"Stopped in the {ending.phase}: {ending.kind}"
        return Headline(kind=STOPPED, sentence=sentence, detail=f"{why}{so_far}")
    if report.judgement:
        return headline(report.judgement.line, names)
    detail = f"{counted(report.steps, 'step')}; there was nothing to compare it with."
    return Headline(kind=TRAINED, sentence=f"{names[0]} was trained", detail=detail)


def _sentence(text: str, names: Sequence[str]) -> str:
    """With a capital, unless it begins with a side's name, which is written as it is."""
    return text if text.startswith(tuple(names)) else text[:1].upper() + text[1:]


def _where(report: Report) -> tuple[Section, ...]:
    """Where the sides part, and why: another formula, or a choice next to its switch."""
    judgement = report.judgement
    if judgement is None or not (judgement.parting or judgement.outside):
        return ()
    facts: list[Fact] = []
    blocks: list[Block] = []
    if parting := judgement.parting:
        facts += [
            Fact(name="They part at", value=f"step {parting.step:,}"),
        ]
        if found := parting.finding:
            what, _, cause = found.line.partition("; cause: ")
            facts += [
                Fact(name="Stage", value=found.place.stage),
                Fact(name="Tensor", value=found.place.tensor, mono=True),
                Fact(name="Relative difference", value=f"{finite(found.difference)}; {found.allowed:.1e} is rounding"),
                Fact(name="What", value=what),
                Fact(name="Cause", value=cause or "no cause is known"),
            ]
        else:
            apart = f"{finite(parting.gap, '.1e')} apart there, {finite(parting.before, '.1e')} before"
            facts.append(Fact(name="Gradients", value=apart))
        rows = tuple((flip.kind, str(flip)) for flip in parting.flips)
        if rows:
            caption = "Choices that the sides make differently in that step"
            blocks.append(Table(caption=caption, columns=("kind", "what"), rows=rows[:_FLIPS]))
            more = len(rows) - _FLIPS
            blocks += [Text(lines=(f"and {more} more.",))] if more > 0 else []
        if parting.explained:
            blocks.append(Text(lines=(_EXPLAINED,)))
    if outside := judgement.outside:
        value = f"after {outside.steps:,} steps: {finite(outside.gap, '.1e')}, where {outside.limit:.1e} is allowed"
        facts.append(Fact(name="Outside the envelope", value=value))
    return (Section(title="Where they part, and why", blocks=(Facts(facts=tuple(facts)), *blocks)),)


_FLIPS = 8
_EXPLAINED = (
    "Rounding explains it: two honest programs part so, as soon as a value next to a switch falls to either side of it."
)


def _speed(report: Report) -> Section:
    rows = tuple(
        (
            side.name,
            f"{report.steps:,}",
            f"{side.seconds:.2f}",
            *((f"{report.steps / side.seconds:,.0f}",) if side.seconds else ("",)),
            *((f"{report.steps * report.settings.batch_size / side.seconds:,.0f}",) if side.seconds else ("",)),
        )
        for side in report.sides
    )
    columns = ("side", "steps", "seconds", "steps/s", "images/s")
    caption = "Time in training calls, compilation included; the sides took turns on the same machine"
    return Section(title="Speed", blocks=(Table(caption=caption, columns=columns, rows=rows),))


def _exact(report: Report) -> tuple[Section, ...]:
    """What float64 showed in the first steps."""
    verdict = report.verdict
    if verdict is None:
        return ()
    facts = [
        Fact(name="Outcome", value=verdict.outcome.value + (f"; first {verdict.reason}" if verdict.reason else "")),
        Fact(name="Losses", value=f"{verdict.largest_loss:.1e} apart at most, at step {verdict.largest_loss_step}"),
        Fact(name="Parameters", value=_gap(verdict.largest_parameters)),
    ]
    if verdict.largest_momentum:
        facts.append(Fact(name="Momentum", value=_gap(verdict.largest_momentum)))
    facts.append(Fact(name="Allowed", value=f"{BOUND:.0e}"))
    return (
        Section(
            title="The first step in float64"
            if verdict.steps == 1
            else f"The first {verdict.steps:,} steps in float64",
            blocks=(Facts(facts=tuple(facts)),),
        ),
    )


def _gap(gap: Gap) -> str:
    return f"{gap.difference:.1e} apart at most ({gap.tensor})"


def _environment(report: Report) -> Section:
    return environment_section(report.environment, tuple(_facts(report)))


def _facts(report: Report) -> Iterator[Fact]:
    settings, sgd, data = report.settings, report.settings.sgd, report.data
    for side in report.sides:
        yield Fact(name=side.name, value=side.description)
    yield Fact(name="Device", value=report.device)
    yield Fact(name="Precision", value=_PRECISION[settings.dtype])
    extras = "".join(f", {name} {getattr(sgd, name)}" for name in EXTRAS if getattr(sgd, name))
    flags = "".join(f", {name}" for name in ("nesterov", "maximize") if getattr(sgd, name))
    yield Fact(name="SGD", value=f"lr {sgd.lr}, momentum {sgd.momentum}{extras}{flags}")
    if sgd.schedule is not None:
        yield Fact(name="Schedule", value=str(sgd.schedule))
    yield Fact(
        name="Trained", value=f"{counted(report.steps, 'step')} of batch {settings.batch_size}, seed {settings.seed}"
    )
    yield Fact(name="Data", value=f"{data.origin}: {data.train_size:,} + {data.test_size:,} images")
    yield Fact(name="SHA-256 of the data", value=data.sha256, mono=True)
    yield Fact(name="Initial weights", value=report.weights.origin)
    yield Fact(name="SHA-256 of the weights", value=report.weights.sha256, mono=True)


_PRECISION = {
    "float32": "full float32 (TF32 is off on both sides)",
    "float64": "float64",
}
