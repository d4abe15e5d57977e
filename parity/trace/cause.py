"""The cause of a difference between two traces, from what they hold of the first steps; or what they lack for one.

Each side is explained by itself, as in a check (`parity.explain`): from all stages of the steps that were recorded with
them, else from losses and full states, with the images that were due. Where neither shows a cause, one line says what
was not recorded, and how it is. Nothing is read here of traces that match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from parity.compare import Rung
from parity.contract import CNN_PARAMETERS, InputError, StepTrace, Weights
from parity.data import Dataset, Loader, default_data_dir, has_cifar10, load_data
from parity.evidence import explain_evidence
from parity.explain import (
    Cause,
    Explanation,
    Unknown,
    explain_fast_path,
    explain_programs,
    explain_start,
    explain_states,
)
from parity.trace.batches import Examples, examples_of, recorded_examples
from parity.trace.first_steps import first_steps
from parity.trace.projection import Projector, columns_of
from parity.trace.reader import Trace
from parity.trace.schedule import FIRST
from parity.trace.steps import given_weights, kept_steps, recorded_steps, runs_otherwise

__all__ = ["Answer", "find_cause", "training_data"]

EXPLAINED = 8
"""Steps that a cause is fitted to: the first ones, and those about a later one where the difference begins there."""

BEFORE = 2
"""Of those so many before it."""

MOST = 200
"""Steps that one may want to record with all their stages, at 2 MB each."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Why two traces differ.

    Args:
        explanation: the causes, or what has none; None where the traces do not hold enough.
        lacking: what they do not hold, and which option keeps it, in one line; None where there is an explanation.
    """

    explanation: Explanation | None = None
    lacking: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """A trace, the name of its side in sentences, and the stages that were recorded of its first steps."""

    name: str
    trace: Trace
    stages: tuple[StepTrace, ...]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What was found of one side.

    Args:
        found: causes and unknown deviations.
        steps: so many steps were held against the formulas.
        whole: with all their stages.
        settled: whether what was found explains everything that was recorded of them.
    """

    found: tuple[Cause | Unknown, ...] = ()
    steps: int = 0
    whole: bool = False
    settled: bool = True


def find_cause(a: Trace, b: Trace, rung: Rung, dataset: Dataset | None = None) -> Answer:
    """Why two traces of one run in float64 differ.

    Args:
        a: one.
        b: the other.
        rung: the first difference beyond the noise.
        dataset: that they were trained on; None to look for it where it usually is.

    Raises:
        InputError: what was recorded of the first steps was truncated or edited, or is of another recording.
    """
    traces = zip(_names(a, b), (a, b), strict=True)
    sides = [_Side(name=name, trace=trace, stages=first_steps(trace)) for name, trace in traces]
    if a.manifest.tensors != dict(CNN_PARAMETERS):
        return _programs(sides, rung)
    examples = _examples(sides, rung.step, dataset)
    if not examples:
        return Answer(lacking=f"their images are not at hand: {_image_advice(sides, rung.step)}")
    given = given_weights(a, [side.stages for side in sides])
    seen = [_explain(side, examples, given, rung.step) for side in sides]
    found = [each for side in seen for each in side.found]
    if not found and all(side.whole and side.steps > rung.step for side in seen):
        found = [_unlike(sides, rung)]
    if found:
        return Answer(explanation=Explanation.of(found))
    return Answer(lacking=_lacking(sides, seen, rung.step))


def _unlike(sides: Sequence[_Side], rung: Rung) -> Unknown:
    """What no side shows by itself, though every stage was recorded."""
    return Unknown(
        side=" and ".join(side.name for side in sides),
        place=rung.place,
        step=rung.step,
        difference=rung.difference,
        residual=rung.difference,
        best=None,
        alone=False,
    )


def _names(a: Trace, b: Trace) -> tuple[str, str]:
    """The implementations', with their folders where one was recorded twice."""
    first, second = a.manifest.implementation, b.manifest.implementation
    return (first, second) if first != second else (f"{first} ({a.path})", f"{second} ({b.path})")


def _explain(side: _Side, examples: Sequence[Examples], given: Weights | None, step: int) -> _Seen:
    """One side from all its stages, or from what every trace holds."""
    return _from_stages(side, examples, given, step) if side.stages else _from_states(side, examples, given)


def _from_stages(side: _Side, examples: Sequence[Examples], given: Weights | None, step: int) -> _Seen:
    """The first steps, those about the one where the difference begins, and those from it on, until one tells why.

    They are what `observe` shows; whether the trace's own steps are the same is asked as well.
    """
    unlike = runs_otherwise(side.trace, side.stages, side.name)
    fast = explain_fast_path(unlike).causes if unlike else ()
    known = recorded_steps(side.stages, examples)
    if known is None:
        return _Seen(found=fast, settled=False)
    last, found, obeyed = 0, list[Cause | Unknown](), 0
    for first in (0, step - BEFORE, step) if step >= EXPLAINED else (0,):
        if window := known.window(first, EXPLAINED):
            last = window.last
            seen = explain_evidence(window.evidence(side.trace, side.name, examples, given))
            obeyed = last + 1 if not (first or seen) else obeyed
            found = [_begun(each, obeyed) for each in seen] or found
            if found and all(isinstance(each, Cause) for each in found):
                break
    return _Seen(found=(*found, *fast), steps=last + 1, whole=True)


def _begun(found: Cause | Unknown, obeyed: int) -> Cause | Unknown:
    """With the step from which on a cause is seen, where so many first steps obey the formulas."""
    if isinstance(found, Unknown) or not obeyed or found.step < obeyed or _names_steps(found.sentence):
        return found
    since = f", seen from step {found.step} on: steps 0 to {obeyed - 1} obey the formulas"
    return replace(found, sentence=found.sentence + since)


def _names_steps(sentence: str) -> bool:
    return " in step " in sentence or " in steps " in sentence


def _from_states(side: _Side, examples: Sequence[Examples], given: Weights | None) -> _Seen:
    """The initial weights by their projections, then the steps whose states were kept in full."""
    begun = _start(side, given) if given is not None else []
    known = kept_steps(side.trace, examples, None if begun else given)
    if known is None:
        return _Seen(found=tuple(begun), settled=False)
    causes = explain_states(known.evidence(side.trace, side.name, examples, given))
    return _Seen(found=(*begun, *(causes or ())), steps=known.last + 1, settled=causes is not None)


def _start(side: _Side, given: Weights) -> list[Cause | Unknown]:
    shapes = side.trace.manifest.tensors
    columns, base = columns_of(shapes), side.trace.chunks[0].base
    seen = {name: base[columns[name]] for name in shapes}
    return explain_start(side.name, given, seen, lambda name, value: Projector({name: shapes[name]})({name: value}))


def _examples(sides: Sequence[_Side], step: int, dataset: Dataset | None) -> list[Examples]:
    """What the first steps were to see, as far as it is known."""
    trace = sides[0].trace
    count = max([min(FIRST, len(trace.batches)), *(len(side.stages) for side in sides)])
    count = min(count, step + EXPLAINED)  # no later step is explained
    batches = min((side.trace.batches for side in sides), key=len)[:count]
    recorded = recorded_examples([side.stages for side in sides], batches)
    if len(recorded) == len(batches):
        return recorded
    found = dataset or _at_hand(trace)
    if found is None:
        return recorded
    settings = trace.manifest.settings
    loader = Loader(size=len(found.train_labels), batch_size=settings.batch_size, seed=settings.seed)
    return max(recorded, examples_of(found, loader, batches), key=len)


def _at_hand(trace: Trace) -> Dataset | None:
    """The set that was trained on, where it is known by name or still lies where it lay; nothing is downloaded."""
    data = trace.manifest.data
    here = {"embedded": True, "cifar10": has_cifar10(default_data_dir())}
    source = data.name if here.get(data.name, False) else data.origin
    if source == data.origin and not Path(source).is_file():
        return None
    try:
        found = load_data(source)
    except InputError:  # damaged, or another file under that name
        return None
    return found if found.fingerprint() == data.sha256 else None


def training_data(trace: Trace, source: str, data_dir: Path | None = None) -> Dataset:
    """The set that a trace was trained on, from where the user says that it is (`parity.data.load_data`).

    Raises:
        InputError: it cannot be read, or is another one.
    """
    found = load_data(source, data_dir=data_dir)
    if found.fingerprint() != trace.manifest.data.sha256:
        problem = f"its SHA-256 is not that of {trace.manifest.data.name}, which {trace.path} was trained on"
        raise InputError("data", source, problem, "name that set, or leave it out")
    return found


def _programs(sides: Sequence[_Side], rung: Rung) -> Answer:
    """Of programs whose formulas are not known, one is held against the other."""
    first, second = sides
    if not (first.stages and second.stages):
        return Answer(
            lacking=f"only the CNN's formulas are known, these are other programs: {_advice(sides, rung.step)}"
        )
    found = explain_programs((first.name, second.name), rung, (first.stages, second.stages))
    return Answer(explanation=Explanation.of(found))


def _lacking(sides: Sequence[_Side], seen: Sequence[_Seen], step: int) -> str:
    last = min(side.steps for side in seen) - 1
    if all(side.settled for side in seen):
        problem = f"in steps 0 to {last}, of which they hold enough, no side leaves its formulas"
    else:
        problem = "losses and states show that a side leaves its formulas, but not where"
    if find_spec("scipy") is None:
        problem += " (scipy is not installed here: other optimizers than SGD are not identified)"
    return f"{problem}: {_advice(sides, step)}"


def _image_advice(sides: Sequence[_Side], step: int) -> str:
    name = "name their data set with --data"
    return name if all(side.stages for side in sides) else f"{name}, or {_advice(sides, step)}"


def _advice(sides: Sequence[_Side], step: int) -> str:
    """What to record."""
    count = max(EXPLAINED, step + EXPLAINED - BEFORE)
    if count > MOST:
        return f"parity run, which trains both sides again, goes back to such a step as {step:,}"
    who = [side.name for side in sides if len(side.stages) < count]
    return f"record {'both' if len(who) == len(sides) else ' and '.join(who)} with --gradients {count}"
