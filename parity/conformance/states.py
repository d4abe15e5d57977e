"""Promises about states: what `start`, `restore`, `weights` and `momentum` make of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.conformance.promise import (
    BrokenPromiseError,
    Unoffered,
    overwrite,
    promise,
    require,
    require_close,
    require_equal,
)
from parity.conformance.subject import Subject
from parity.contract import DTYPES, SGD, InputError, Weights

__all__ = ["STATES"]

KNOWN_DEVICES = {"cpu", "cuda"}  # what a run can ask for


@promise()
def devices_named(subject: Subject) -> None:
    """devices() names the devices that it can use."""
    found = subject.side.call("devices")
    names = isinstance(found, tuple) and all(isinstance(name, str) for name in found)
    require(names, f"it returned {found!r}, not a tuple of names")
    require(set(found) & KNOWN_DEVICES, f"it returned {found!r}, with neither cpu nor cuda")
    require(len(set(found)) == len(found), f"it returned {found!r}, a device twice")


@promise()
def description(subject: Subject) -> None:
    """describe() is one line of text."""
    found = subject.side.call("describe", subject.start())
    require(isinstance(found, str), f"it returned {type(found).__name__}")
    require(found.strip() and len(found.splitlines()) == 1, f"it returned {found!r}")


@promise()
def own_example(subject: Subject) -> None:
    """example() brings the same weights and data each time."""
    if subject.is_cnn:
        raise Unoffered("it is the CNN, which is given its data")
    weights, data = subject.side.call("example")
    overwrite(weights)
    again, rows = subject.side.call("example")
    require_equal(again, subject.problem.weights, "what is done to the first reaches the second")
    expected = dict(enumerate(map(str, map(np.shape, data))))
    require(dict(enumerate(map(str, map(np.shape, rows)))) == expected, "the data have another shape")


@promise()
def own_optimizer(subject: Subject) -> None:
    """start() refuses hyper-parameters that it would not use."""
    if subject.is_cnn:
        raise Unoffered("it is the CNN, which uses them")
    _require_refusal(subject, subject.given_weights(), sgd=SGD(lr=0.5))


@promise()
def start_takes(subject: Subject) -> None:
    """weights() are those that start() was given, in the state's dtype."""
    found = subject.weights(subject.start())
    require_equal(found, subject.given_weights(subject.dtype), "they are not")
    _require_dtype("weights()", found, subject.dtype)


@promise(after=(start_takes,))
def start_copies(subject: Subject) -> None:
    """start() copies the weights."""
    given = subject.given_weights(subject.dtype)
    state = subject.start(given)
    overwrite(given)
    require_equal(subject.weights(state), subject.given_weights(subject.dtype), "the caller's later change shows")


@promise()
def refuses_missing(subject: Subject) -> None:
    """start() refuses weights that lack a tensor."""
    given = subject.given_weights()
    given.popitem()
    _require_refusal(subject, given)


@promise()
def refuses_unknown(subject: Subject) -> None:
    """start() refuses weights with a tensor that is not the model's."""
    _require_refusal(subject, subject.given_weights() | {"no such tensor": np.ones(3, np.float32)})


@promise()
def refuses_shape(subject: Subject) -> None:
    """start() refuses weights of another shape."""
    given = subject.given_weights()
    name = next(name for name in reversed(given) if given[name].ndim)
    given[name] = np.concatenate([given[name], given[name]])
    _require_refusal(subject, given)


@promise()
def refuses_device(subject: Subject) -> None:
    """start() refuses a device that it does not have."""
    _require_refusal(subject, subject.given_weights(), device="no-such-device")


def _require_refusal(subject: Subject, weights: Weights, *, sgd: SGD | None = None, device: str | None = None) -> None:
    try:
        where = device or subject.device
        subject.side.implementation.start(weights, sgd or subject.sgd, dtype=subject.dtype, device=where)
    except InputError:
        return
    except Exception as error:
        problem = f"it raised {type(error).__name__}, not InputError: {error}"
        raise BrokenPromiseError(problem) from error
    raise BrokenPromiseError("it took them")


@promise()
def weights_copied(subject: Subject) -> None:
    """weights() returns copies."""
    state = subject.stepped()
    before = subject.weights(state)
    overwrite(subject.side.call("weights", state))
    require_equal(subject.weights(state), before, "what is done to them reaches the state")


@promise()
def momentum_named(subject: Subject) -> None:
    """momentum() is named and shaped like the parameters, in the state's dtype."""
    state = subject.stepped()
    weights, momentum = subject.weights(state), subject.momentum(state)
    for name, value in momentum.items():
        parameter = weights.get(name.partition(":")[0])
        require(parameter is not None, f"{name} is not a parameter's")
        require(parameter is not None and parameter.shape == value.shape, f"{name} has shape {value.shape}")
    _require_dtype("momentum()", momentum, subject.dtype)
    missing = sorted(weights.keys() - momentum.keys()) if subject.is_cnn else []
    require(not missing, f"{missing and missing[0]} is missing")


@promise()
def momentum_copied(subject: Subject) -> None:
    """momentum() returns copies."""
    state = subject.stepped()
    before = subject.momentum(state)
    overwrite(subject.side.call("momentum", state))
    require_equal(subject.momentum(state), before, "what is done to it reaches the state")


@promise(after=(momentum_named,))
def momentum_at_first(subject: Subject) -> None:
    """momentum() is zeros before the first step."""
    if not subject.is_cnn:
        raise Unoffered("its optimizer is its own")
    state = subject.start()
    zeros = {name: np.zeros_like(value) for name, value in subject.weights(state).items()}
    require_equal(subject.momentum(state), zeros, "it is not")


@promise()
def momentum_empty(subject: Subject) -> None:
    """momentum() is empty when sgd.momentum is 0."""
    if not subject.is_cnn:
        raise Unoffered("its optimizer is its own")
    sgd = SGD(momentum=0.0)
    for state in (subject.start(sgd=sgd), subject.stepped(sgd)):
        require(not subject.momentum(state), f"it holds {', '.join(subject.momentum(state))}")


@promise(after=(momentum_named,))
def restore_round_trip(subject: Subject) -> None:
    """restore() and the steps after it go on from the given tensors."""
    source = subject.stepped()
    weights, momentum = subject.weights(source), subject.momentum(source)
    # After as many steps, since the step count stays: from other weights, so that nothing is there already.
    halved = {name: value / 2 for name, value in subject.given_weights().items()}
    state = subject.restore(subject.run(subject.start(halved))[0], weights, momentum)
    require_equal(subject.weights(state), weights, "weights() are not those given")
    require_close(subject.momentum(state), momentum, subject.dtype, "momentum() is not that given")
    expected, found = subject.run(source)[0], subject.run(state)[0]
    require_close(
        subject.weights(found), subject.weights(expected), subject.dtype, "the next steps", but=subject.noise()
    )


@promise(after=(restore_round_trip,))
def restore_first_step(subject: Subject) -> None:
    """restore() without momentum makes the next step a first one."""
    start = subject.start()
    state = subject.restore(subject.stepped(), subject.weights(start), {})
    if not subject.is_cnn:  # its step count stays, so that the next step need not be a first one's
        _require_same_momentum(subject.momentum(state), subject.momentum(start))
        return
    rows = subject.plan[:1]
    expected, found = subject.run(start, rows)[0], subject.run(state, rows)[0]
    require_close(subject.tensors(found), subject.tensors(expected), subject.dtype, "it is not")


def _require_same_momentum(found: Weights, expected: Weights) -> None:
    """The same, where a missing buffer stands at zero."""
    zeros = {name: np.zeros_like(value) for name, value in {**found, **expected}.items()}
    require_equal({**zeros, **found}, {**zeros, **expected}, "momentum() is not that of a first state")


@promise(after=(momentum_named,))
def restore_copies(subject: Subject) -> None:
    """restore() copies what it is given."""
    source = subject.stepped()
    weights, momentum = subject.weights(source), subject.momentum(source)
    state = subject.restore(source, weights, momentum)
    before = subject.tensors(state)
    overwrite(weights)
    overwrite(momentum)
    require_equal(subject.tensors(state), before, "the caller's later change shows")


@promise(after=(momentum_named,))
def restore_rounds(subject: Subject) -> None:
    """restore() rounds to the state's dtype."""
    source = subject.stepped()
    other = next(dtype for dtype in DTYPES if dtype != subject.dtype)

    def as_other(tensors: Weights) -> dict[str, NDArray[np.floating]]:
        return {name: value.astype(other) for name, value in tensors.items()}

    state = subject.restore(source, as_other(subject.weights(source)), as_other(subject.momentum(source)))
    _require_dtype("weights()", subject.weights(state), subject.dtype)
    _require_dtype("momentum()", subject.momentum(state), subject.dtype)


@promise(after=(momentum_named,))
def restore_leaves(subject: Subject) -> None:
    """restore() leaves its state."""
    state = subject.stepped()
    before = subject.tensors(state)
    other = {name: value / 2 for name, value in before.items()}
    weights = {name: other[name] for name in subject.weights(state)}
    subject.restore(state, weights, {name: other[f"{name}:momentum"] for name in subject.momentum(state)})
    require_equal(subject.tensors(state), before, "it changed")


def _require_dtype(what: str, tensors: Weights, dtype: str) -> None:
    for name, value in tensors.items():
        require(value.dtype == dtype, f"{what}: {name} is {value.dtype}")


STATES = (
    devices_named,
    description,
    own_example,
    own_optimizer,
    start_takes,
    start_copies,
    refuses_missing,
    refuses_unknown,
    refuses_shape,
    refuses_device,
    weights_copied,
    momentum_named,
    momentum_copied,
    momentum_at_first,
    momentum_empty,
    restore_round_trip,
    restore_first_step,
    restore_copies,
    restore_rounds,
    restore_leaves,
)
