"""The first steps of two traces that hold every stage of them: how far each tensor is apart, down to its elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.compare import Detail, Gap, Stage, StateGap, relative_difference, stage_tensors, tensor_detail
from parity.contract import STAGES, StepTrace
from parity.report.figures import finite
from parity.report.ladder import ROWS, entry_of
from parity.report.page import Explorer, Section
from parity.report.tensors import gap_map

__all__ = ["steps_section"]


@dataclass(frozen=True, kw_only=True)
class _Worst:
    """A tensor's largest difference of all steps, with its elements there."""

    step: int
    difference: float
    detail: Detail


def steps_section(
    steps: tuple[Sequence[StepTrace], Sequence[StepTrace]], names: tuple[str, str], *, first: Stage | None = None
) -> tuple[Section, ...]:
    """A heat map over tensors and steps; nothing where one side has none.

    Args:
        steps: of either side, from the first on.
        names: of the sides.
        first: the tensor to show at first, if it is there; otherwise the one that differs most.
    """
    gaps: list[StateGap] = []
    worst: dict[Stage, _Worst] = {}
    for number, (a, b) in enumerate(zip(*steps, strict=False)):
        x, y = stage_tensors(a), stage_tensors(b)
        shared = [place for place in x if place in y and x[place].shape == y[place].shape]
        found = {place: relative_difference(x[place], y[place]) for place in shared}
        for place, difference in found.items():
            if place not in worst or difference > worst[place].difference:
                detail = tensor_detail(place, x[place], y[place], step=number)
                worst[place] = _Worst(step=number, difference=difference, detail=detail)
        # One state a column; what it holds of parameters as a whole is for runs.
        gaps.append(StateGap(steps=number, parameters=Gap(tensor="", difference=0.0), momentum=None, tensors=found))
    if not worst:
        return ()
    places = _shown(worst)
    explorer = Explorer(
        chart=gap_map(gaps, places, name="stages", caption=_CAPTION, when="step"),
        legend="Look into a tensor:",
        entries=tuple(_entry(place, worst[place]) for place in places),
        sides=names,
        chosen=places.index(first) if first in places else _furthest(places, worst),
        columns=tuple(f"step {gap.steps}" for gap in gaps),
    )
    return (Section(title="The ladder of stages", blocks=(explorer,)),)


_CAPTION = (
    "Relative difference of each tensor in every step that both traces hold in full. Empty where both are equal to the "
    "last bit, or only one has the tensor. A click on a cell or on a name looks into that tensor, at the step where it "
    "is worst; so does the list below."
)


def _shown(worst: dict[Stage, _Worst]) -> list[Stage]:
    """In the order of the stages; of too many those that differ most."""
    places = sorted(worst, key=lambda place: STAGES.index(place.stage))
    kept = set(sorted(places, key=lambda place: -worst[place].difference)[:ROWS])
    return [place for place in places if place in kept]


def _furthest(places: Sequence[Stage], worst: dict[Stage, _Worst]) -> int:
    return max(range(len(places)), key=lambda number: worst[places[number]].difference)


def _entry(place: Stage, worst: _Worst) -> dict[str, object]:
    shown = f"step {worst.step}"
    facts = [("Worst in", shown), ("Relative difference", finite(worst.difference))]
    return dict(entry_of(str(place), facts, worst.detail, shown=shown))
