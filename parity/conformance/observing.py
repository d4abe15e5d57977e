"""Promises about `observe`, and about partial batches, which it helps to test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity.conformance.promise import Unoffered, overwrite, promise, require, require_close, require_equal
from parity.conformance.running import deterministic, float64, loss_of_each_step, order_in_batch, trains
from parity.conformance.states import momentum_named, start_takes
from parity.conformance.subject import PARTIAL, Subject
from parity.contract import CNN_ACTIVATIONS, StepTrace, Tensors
from parity.oracle.sgd import sgd_update

__all__ = ["OBSERVING", "complete", "observe_agrees", "partial_batch", "records_states", "update_follows"]

REQUIRED = ("batch", "weights", "logits", "loss", "gradients", "parameters")
STAGES = (*REQUIRED, "activations", "momentum")


@promise(after=(start_takes,))
def complete(subject: Subject) -> None:
    """observe() records every stage, in the state's dtype."""
    trace = subject.observe(subject.start())[1]
    for stage in STAGES:
        tensors = getattr(trace, stage)
        require(isinstance(tensors, Mapping), f"{stage} is {type(tensors).__name__}, not arrays by name")
        require(tensors or stage not in REQUIRED, f"nothing is recorded as {stage}")
        for name, value in tensors.items():
            require(isinstance(value, np.ndarray), f"{stage}, {name} is {type(value).__name__}, not a NumPy array")
            floats = value.dtype.kind == "f"
            require(not floats or value.dtype == subject.dtype, f"{stage}, {name} is {value.dtype}")
    _require_shapes(subject, trace)


def _require_shapes(subject: Subject, trace: StepTrace) -> None:
    rows = len(subject.plan[0])
    require(list(trace.loss) == ["loss"] and trace.loss["loss"].shape == (), "loss is not one scalar named loss")
    require(list(trace.logits) == ["logits"], "logits are not one array named logits")
    require(trace.logits["logits"].shape[:1] == (rows,), f"logits have no row for each of {rows} examples")
    weights = subject.weights(subject.start())
    for name, value in trace.gradients.items():
        shape = weights[name].shape if name in weights else "no parameter's"
        require(value.shape == shape, f"the gradient of {name} is {value.shape}, the parameter {shape}")
    unknown = [name for name in trace.parents if name not in trace.activations]
    require(not unknown, f"{unknown and unknown[0]} has parents, and is no activation")
    if subject.is_cnn:
        missing = sorted(weights.keys() - trace.gradients.keys())
        require(not missing, f"the gradient of {missing and missing[0]} is missing")
        shapes = {name: (rows, *shape) for name, shape in CNN_ACTIVATIONS.items()}
        found = {name: value.shape for name, value in trace.activations.items()}
        wrong = next((name for name in {**shapes, **found} if shapes.get(name) != found.get(name)), "")
        require(found == shapes, f"activation {wrong} is {found.get(wrong)}, not {shapes.get(wrong)}")


@promise(after=(complete, momentum_named))
def records_states(subject: Subject) -> None:
    """observe() records the tensors of the states before and after."""
    state = subject.stepped()
    expected = subject.weights(state)
    after, trace = subject.observe(state)
    require_equal(trace.weights, expected, "weights")
    require_equal(trace.parameters, subject.weights(after), "parameters")
    require_equal(trace.momentum, subject.momentum(after), "momentum")


@promise(after=(complete,))
def observe_copies(subject: Subject) -> None:
    """observe() returns copies."""
    state = subject.stepped()
    after, trace = subject.observe(state)
    before = subject.tensors(state), subject.tensors(after)
    for stage in STAGES:
        overwrite(getattr(trace, stage))
    require_equal(subject.tensors(state), before[0], "what is done to them reaches the state before")
    require_equal(subject.tensors(after), before[1], "what is done to them reaches the state after")


@promise(after=(complete,))
def observe_leaves(subject: Subject) -> None:
    """observe() leaves its state."""
    state = subject.stepped()
    before = subject.tensors(state)
    subject.observe(state)
    require_equal(subject.tensors(state), before, "it changed")


@promise(after=(deterministic, trains, complete))
def observe_agrees(subject: Subject) -> None:
    """observe() takes the step that run() takes."""
    observed = subject.start()
    losses = []
    for rows in subject.plan:
        observed, trace = subject.observe(observed, rows)
        losses.append(trace.loss["loss"])
    ran, expected = subject.run(subject.start())
    require_close({"loss": np.stack(losses)}, {"loss": expected}, subject.dtype, "it does not")
    require_close(subject.tensors(observed), subject.tensors(ran), subject.dtype, "it does not", but=subject.noise())


@promise(after=(loss_of_each_step, order_in_batch, observe_agrees))
def partial_batch(subject: Subject) -> None:
    """run() takes a batch of another size, and averages over its examples."""
    rows = subject.plan[0]
    parts = [part[np.newaxis] for part in (rows[:PARTIAL], rows[PARTIAL:]) if len(part)]
    losses = [subject.run(subject.start(), part)[1] for part in parts]
    require(all(np.isfinite(loss).all() for loss in losses), "the loss of fewer examples is not finite")
    if subject.is_cnn:
        whole = subject.run(subject.start(), rows[np.newaxis])[1]
        means = np.mean(losses, axis=0)
        require_close({"loss": means}, {"loss": whole}, subject.dtype, "the mean of two halves is not the whole's")


@promise(after=(records_states, float64))
def update_follows(subject: Subject) -> None:
    """The update follows from the recorded gradients, as SGD says."""
    if not subject.is_cnn:
        raise Unoffered("its optimizer is its own")
    state = subject.stepped()
    weights, buffers = _wide(subject.weights(state)), _wide(subject.momentum(state))
    after, trace = subject.observe(state)
    for name, gradient in _wide(trace.gradients).items():
        parameter, buffer = sgd_update(weights[name], gradient, buffers[name], subject.sgd, len(subject.plan))
        expected = {name: parameter, f"{name}:momentum": np.asarray(buffer)}
        found = {name: subject.weights(after)[name], f"{name}:momentum": subject.momentum(after)[name]}
        require_close(found, expected, subject.dtype, "it does not")


def _wide(tensors: Tensors) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}


OBSERVING = (
    complete,
    records_states,
    observe_copies,
    observe_leaves,
    observe_agrees,
    partial_batch,
    update_follows,
)
