"""Two sides at the same point of the same problem."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.compare import in_order_of, nudge
from parity.contract import StepTrace, Weights
from parity.lane import Calls, Lane, require_same_tensors
from parity.problem import Arrays, Problem
from parity.settings import Settings, Side

__all__ = ["Pair", "start_pair"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both sides' lanes and states; immutable, so that any point that was kept can be returned to.

    `data` is what `observe` reads: None for the problem's training data, or what `on` has placed.
    """

    lanes: tuple[Lane, Lane]
    states: tuple[Any, Any]
    problem: Problem
    data: tuple[Any, Any] = (None, None)

    @property
    def names(self) -> tuple[str, str]:
        """The sides' names."""
        return self.lanes[0].side.name, self.lanes[1].side.name

    @property
    def sides(self) -> tuple[Side, Side]:
        """The sides."""
        return self.lanes[0].side, self.lanes[1].side

    def at(self, states: Sequence[Any]) -> Pair:
        """The same pair with other states."""
        first, second = states
        return Pair(lanes=self.lanes, states=(first, second), problem=self.problem, data=self.data)

    def restore(self, weights: Weights, momentum: Weights) -> Pair:
        """Both sides with these tensors in place of their own."""
        return self.at([lane.restore(state, weights, momentum) for lane, state in self._each()])

    def resynchronised(self) -> Pair:
        """Both sides at the first side's parameters and momentum."""
        lane, state = self.lanes[0], self.states[0]
        return self.at([state, self.lanes[1].restore(self.states[1], *lane.tensors(state))])

    def nudged(self, *, seed: int, dtype: str, first: bool = False) -> Pair:
        """Both sides' null runs: each from its own weights, moved by one unit in the last place.

        Args:
            seed: of the directions, the same on both.
            dtype: of the pair.
            first: whether this is before the first step: there is no momentum yet then.
        """
        moved = []
        for lane, state in self._each():
            weights, momentum = lane.tensors(state)
            moved.append(lane.restore(state, nudge(weights, seed=seed, dtype=dtype), {} if first else momentum))
        return self.at(moved)

    def on(self, arrays: Arrays) -> Pair:
        """Both sides with these data."""
        first, second = (lane.place(state, arrays) for lane, state in self._each())
        return Pair(lanes=self.lanes, states=self.states, problem=self.problem, data=(first, second))

    def stop_compiling(self) -> None:
        """What `start_pair` let the sides compile, and has not been begun, is not wanted any more."""
        for lane in self.lanes:
            lane.stop_compiling()

    def observe(self, rows: NDArray[np.int32]) -> tuple[Pair, tuple[StepTrace, StepTrace]]:
        """Both sides after the step, and what each computed."""
        (a, first), (b, second) = (
            lane.observe(state, rows, data) for (lane, state), data in zip(self._each(), self.data, strict=True)
        )
        return self.at([a, b]), (first, second)

    def comparable(self, first: StepTrace, second: StepTrace) -> tuple[StepTrace, StepTrace]:
        """Both sides' steps with the first's order of examples, and with activations only where names mean the same.

        Own programs name their activations each in its own way; those are matched by value, elsewhere.
        """
        second = in_order_of(first, second)
        if self.problem.is_cnn:
            return first, second
        return replace(first, activations={}), replace(second, activations={})

    def run(self, plan: NDArray[np.int32]) -> Pair:
        """Both sides after the plan's steps on their fast paths."""
        return self.at([lane.run(state, plan, timed=False)[0] for lane, state in self._each()])

    def run_steps(self, plan: NDArray[np.int32]) -> Pair:
        """The same, one step at a time."""
        pair = self
        for rows in plan:
            pair = pair.run(rows[np.newaxis])
        return pair

    def _each(self) -> list[tuple[Lane, Any]]:
        return list(zip(self.lanes, self.states, strict=True))


def start_pair(
    sides: tuple[Side, Side], problem: Problem, settings: Settings, device: str, *, calls: Calls | None = None
) -> Pair:
    """Both sides before the first step.

    Args:
        sides: in the problem's names and layout.
        problem: data and weights.
        settings: hyper-parameters and dtype.
        device: for both.
        calls: what they will be asked for: a side that compiles begins with that, and is started first, so that it
            does while the other starts. Whoever gives them calls `stop_compiling` afterwards.

    Raises:
        InputError: a side cannot start, or the sides have different tensors.
        SideError: a side raised an exception, or broke the protocol.
    """
    lanes = (Lane(side=sides[0]), Lane(side=sides[1]))
    states: dict[int, Any] = {}
    with ExitStack() as begun:
        for number in sorted((0, 1), key=lambda number: not (calls and lanes[number].compiles_ahead)):
            lane = lanes[number]
            states[number] = lane.start(problem, settings, device)
            begun.callback(lane.stop_compiling)
            if calls:
                lane.compile_ahead(states[number], calls)
        require_same_tensors(lanes)
        begun.pop_all()
    return Pair(lanes=lanes, states=(states[0], states[1]), problem=problem)
