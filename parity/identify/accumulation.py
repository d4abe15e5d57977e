"""Gradients that are accumulated: only every so many steps the parameters move, by the sum or mean of the gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.contract import InputError
from parity.identify.run import MIN_STEPS, RecordedRun

__all__ = ["accumulated", "steps_to_an_update"]


def steps_to_an_update(run: RecordedRun) -> int:
    """k, where exactly the steps k - 1, 2k - 1, ... move anything; 1 where there is no such k above it."""
    moves = np.flatnonzero((np.diff(run.parameters, axis=0) != 0).any(axis=1))
    every = int(moves[0]) + 1 if len(moves) else 1
    expected = np.arange(every - 1, run.steps, every)
    return every if every > 1 and np.array_equal(moves, expected) and len(moves) > 1 else 1


def accumulated(run: RecordedRun, every: int) -> RecordedRun:
    """The run with one step for each update, its gradient the mean of those it is made of.

    A sum is no other rule: the learning rate, epsilons and decay take the factor.

    Raises:
        InputError: there are too few updates.
    """
    if every == 1:
        return run
    updates = run.steps // every
    if updates < MIN_STEPS:
        problem = f"the parameters move every {every} steps: {updates} updates are too few to identify anything"
        raise InputError("gradients", f"of {run.steps} steps", problem, f"record {MIN_STEPS * every} steps at least")
    used = slice(updates * every)
    gradients = run.gradients[used].reshape(updates, every, -1).mean(axis=1)
    return replace(
        run,
        parameters=run.parameters[: updates * every + 1 : every],
        gradients=gradients,
        active=np.any(run.active[used].reshape(updates, every, -1), axis=1),
        norms=np.sqrt(np.square(gradients).sum(axis=1)),
        every=every,
    )
