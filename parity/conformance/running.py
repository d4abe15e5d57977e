"""Promises about `place`, `run`, `run_many` and `logits`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.conformance.promise import Unoffered, promise, require, require_close, require_equal
from parity.conformance.states import restore_round_trip
from parity.conformance.subject import PARTIAL, STEPS, Subject
from parity.contract import SGD, Ensemble, StepLR

__all__ = ["RUNNING", "deterministic", "float64", "loss_of_each_step", "order_in_batch", "pieces", "trains"]


@promise()
def loss_of_each_step(subject: Subject) -> None:
    """run() returns one loss for each step, in the state's dtype."""
    losses = subject.run(subject.start())[1]
    require(isinstance(losses, np.ndarray), f"it returned {type(losses).__name__}, not a NumPy array")
    require(losses.shape == (STEPS,), f"for {STEPS} steps their shape is {losses.shape}")
    require(losses.dtype == subject.dtype, f"they are {losses.dtype}")
    require(np.isfinite(losses).all(), f"they are {losses}")


@promise(after=(loss_of_each_step,))
def deterministic(subject: Subject) -> None:
    """run() is deterministic."""
    (one, losses), (two, repeated) = (subject.run(subject.start()) for _ in range(2))
    require_equal({"loss": repeated}, {"loss": losses}, "a second run is another")
    require_equal(subject.tensors(two), subject.tensors(one), "a second run is another")


@promise(after=(loss_of_each_step,))
def trains(subject: Subject) -> None:
    """run() trains."""
    state = subject.start()
    before, after = subject.weights(state), subject.weights(subject.run(state)[0])
    require(any((after[name] != value).any() for name, value in before.items()), "no parameter moved")


@promise(after=(deterministic,))
def run_leaves(subject: Subject) -> None:
    """run() leaves its state."""
    state = subject.stepped()
    before = subject.tensors(state)
    once = subject.tensors(subject.run(state)[0])
    require_equal(subject.tensors(state), before, "it changed")
    require_equal(subject.tensors(subject.run(state)[0]), once, "a second run from it is another")


@promise(after=(deterministic,))
def pieces(subject: Subject) -> None:
    """run() does not depend on how its plan is cut into pieces."""
    whole, losses = subject.run(subject.start())
    state, joined = subject.start(), []
    for rows in subject.plan:
        state, loss = subject.run(state, rows[np.newaxis])
        joined.append(loss)
    require_close({"loss": np.concatenate(joined)}, {"loss": losses}, subject.dtype, "it does")
    require_close(subject.tensors(state), subject.tensors(whole), subject.dtype, "it does", but=subject.noise())


@promise(after=(restore_round_trip, deterministic, trains))
def restore_keeps_count(subject: Subject) -> None:
    """restore() leaves the step count, by which a schedule goes on."""
    if not subject.is_cnn:
        raise Unoffered("its schedule is its own")
    # After as many steps the learning rate is 0.
    sgd = SGD(lr=0.01, momentum=0.0, schedule=StepLR(step_size=STEPS, gamma=0.0))
    if not subject.takes(sgd):
        raise Unoffered("it refuses schedules")
    for state, moves in ((subject.start(sgd=sgd), True), (subject.stepped(sgd), False)):
        restored = subject.restore(state, subject.given_weights(), {})
        before, after = subject.weights(restored), subject.weights(subject.run(restored, subject.plan[:1])[0])
        moved = any((after[name] != value).any() for name, value in before.items())
        require(moved == moves, "a schedule does not go on where it was")


@promise(after=(loss_of_each_step, trains), dtypes=("float64",))
def float64(subject: Subject) -> None:
    """float64 is computed in float64."""
    state, losses = subject.run(subject.start())
    for what, values in (("the losses", [losses]), ("the parameters", list(subject.weights(state).values()))):
        # Of honest float64 values, one in 2^29 has the bits that float32 does not hold all zero.
        narrow = all(np.array_equal(value, value.astype(np.float32)) for value in values)
        require(not narrow, f"{what} after {STEPS} steps are all float32 values")


@promise(after=(deterministic,))
def place_copies(subject: Subject) -> None:
    """place() copies the data."""
    state, given = subject.start(), subject.given_data()
    data = subject.place(state, given)
    for array in given:
        array[...] = array[::-1].copy()
    expected = subject.run(subject.start())[0]
    found, _ = subject.side.call("run", state, data, subject.plan.copy())
    require_equal(subject.weights(found), subject.weights(expected), "the caller's later change shows")


@promise()
def callers_arrays(subject: Subject) -> None:
    """The caller's arrays are left as they were."""
    weights, data, plan = subject.given_weights(), subject.given_data(), subject.plan.copy()
    call = subject.side.call
    state = subject.start(weights)
    placed = subject.place(state, data)
    call("run", state, placed, plan)
    call("observe", state, placed, plan[0])
    call("logits", state, placed)
    call("restore", state, weights, {})
    require_equal(weights, subject.given_weights(), "the weights changed")
    require(np.array_equal(plan, subject.plan), "the plan changed")
    for number, (array, expected) in enumerate(zip(data, subject.problem.train, strict=True)):
        require(np.array_equal(array, expected), f"array {number} of the data changed")


@promise(after=(deterministic,))
def placed_data(subject: Subject) -> None:
    """Placed data are left as they were."""
    call = subject.side.call
    uses: dict[str, Callable[[Any, Any], object]] = {
        "run": lambda state, data: call("run", state, data, subject.plan.copy()),
        "observe": lambda state, data: call("observe", state, data, subject.plan[0].copy()),
        "logits": lambda state, data: call("logits", state, data),
    }
    expected = subject.weights(subject.run(subject.start())[0])
    for method, use in uses.items():
        data = subject.place(subject.start())
        use(subject.start(), data)
        found, _ = call("run", subject.start(), data, subject.plan.copy())
        require_equal(subject.weights(found), expected, f"after {method}(), a run on them is another")


@promise(after=(deterministic,))
def order_in_batch(subject: Subject) -> None:
    """The order of the examples inside a batch does not matter."""
    if not subject.is_cnn:
        raise Unoffered("a program of its own may draw random numbers by position")
    expected, losses = subject.run(subject.start())
    found, turned = subject.run(subject.start(), np.ascontiguousarray(subject.plan[:, ::-1]))
    require_close({"loss": turned}, {"loss": losses}, subject.dtype, "it does")
    require_close(subject.tensors(found), subject.tensors(expected), subject.dtype, "it does")


@promise()
def logits_shape(subject: Subject) -> None:
    """logits() returns a row for each example, in the state's dtype."""
    found = subject.logits(subject.start())
    outputs = found.shape[1:] if subject.problem.outputs is None else subject.problem.outputs
    expected = (subject.problem.size, *outputs)
    require(found.shape == expected, f"their shape is {found.shape}, not {expected}")
    require(found.dtype == subject.dtype, f"they are {found.dtype}")


@promise(after=(logits_shape,))
def logits_order(subject: Subject) -> None:
    """logits() are in the order of the examples."""
    turned = tuple(np.roll(array, 1, axis=0) for array in subject.given_data())
    expected = {"logits": np.roll(subject.logits(subject.start()), 1, axis=0)}
    require_close({"logits": subject.logits(subject.start(), turned)}, expected, subject.dtype, "of rolled examples")


@promise(after=(logits_order,))
def logits_alone(subject: Subject) -> None:
    """logits() of an example do not depend on the others."""
    some = tuple(array[:PARTIAL] for array in subject.given_data())
    expected = {"logits": subject.logits(subject.start())[:PARTIAL]}
    require_close({"logits": subject.logits(subject.start(), some)}, expected, subject.dtype, "beside fewer examples")


@promise()
def logits_leaves(subject: Subject) -> None:
    """logits() leaves its state."""
    state = subject.stepped()
    before = subject.tensors(state)
    subject.logits(state)
    require_equal(subject.tensors(state), before, "it changed")


@promise(after=(deterministic,))
def many_states(subject: Subject) -> None:
    """run_many() is run() of each state."""
    if not isinstance(subject.side.implementation, Ensemble):
        raise Unoffered("it offers no run_many()")
    halved = subject.start({name: value / 2 for name, value in subject.given_weights().items()})
    states = (subject.start(), halved)
    answer = subject.side.call("run_many", states, subject.place(states[0]), subject.plan.copy())
    require(isinstance(answer, tuple) and len(answer) == 2, "it returned no pair of states and losses")
    found, losses = answer
    require(len(found) == len(states), f"for {len(states)} states it returned {len(found)}")
    runs = [subject.run(state) for state in states]
    expected = {"loss": np.stack([losses for _, losses in runs])}
    require_close({"loss": np.asarray(losses)}, expected, subject.dtype, "it is not")
    for state, (after, _) in zip(found, runs, strict=True):
        require_close(subject.tensors(state), subject.tensors(after), subject.dtype, "it is not", but=subject.noise())


RUNNING = (
    loss_of_each_step,
    deterministic,
    trains,
    run_leaves,
    pieces,
    restore_keeps_count,
    float64,
    place_copies,
    callers_arrays,
    placed_data,
    order_in_batch,
    logits_shape,
    logits_order,
    logits_alone,
    logits_leaves,
    many_states,
)
