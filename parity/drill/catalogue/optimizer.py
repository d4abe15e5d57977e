"""The optimizer: momentum, learning rate, decay, and which tensors it moves.

Where torch's rule puts a term into the momentum buffer (weight decay, the first gradient), the buffer is what shows a
fault of it first, before the update does; a flag that leaves the buffer as it is (nesterov) shows in the update.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, AnyImplementation
from parity.drill.catalogue.weights import bfloat16
from parity.drill.fault import ANY, Fault, Host, Mutation, Probe
from parity.drill.tuned import decaying, plain, tune, with_lookahead, with_momentum
from parity.drill.updating import Left, Rule, Tensor, Turn, configure, optimize, outcome, sgd_rule
from parity.drill.wrapped import Inapplicable

__all__ = ["OPTIMIZER"]

Array = NDArray[np.float64]
Arrays = dict[str, Array]

LR = 0.01
DECAYED = Probe(sgd=SGD(lr=LR, weight_decay=5e-4))
DAMPENED = Probe(sgd=SGD(lr=LR, dampening=0.3))
AHEAD = Probe(sgd=SGD(lr=LR, nesterov=True))
WEIGHTS_DECAYED = Probe(sgd=SGD(lr=LR, weight_decay=5e-4, decay_biases=False))


def averaged(tensor: Tensor, turn: Turn) -> tuple[Array, Array]:
    """A moving average: b <- mu b + (1 - mu) g, from b = 0."""
    mu = turn.sgd.momentum
    before = 0.0 if tensor.buffer is None else tensor.buffer
    b = mu * before + (1 - mu) * tensor.gradient
    return tensor.value - turn.sgd.lr * b, b


def decay_biases_only(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """The decay applies where it should not, and nowhere else."""
    decay = turn.sgd.weight_decay if tensor.value.ndim == 1 else 0.0
    return sgd_rule(tensor, replace(turn, sgd=replace(turn.sgd, weight_decay=decay, decay_biases=True)))


def decoupled(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """AdamW's form, p <- p - lr (b + wd p): the decay does not pass through the momentum."""
    moved, buffer = sgd_rule(tensor, replace(turn, sgd=replace(turn.sgd, weight_decay=0.0)))
    return moved - turn.sgd.lr * turn.sgd.weight_decay * tensor.value, buffer


def every_second_step(tensor: Tensor, turn: Turn) -> tuple[Array, Array | None]:
    """optax.MultiSteps(2): the mean of two gradients, in every second step; nothing moves in the others."""
    key = f"waiting {tensor.name}"
    if turn.number % 2 == 0:
        turn.memory[key] = tensor.gradient
        return tensor.value, tensor.buffer
    mean = (turn.memory[key] + tensor.gradient) / 2
    return sgd_rule(replace(tensor, gradient=mean), turn)


def adam(tensor: Tensor, turn: Turn) -> tuple[Array, Array]:
    """Adam: m <- .9 m + .1 g, v <- .999 v + .001 g^2, both corrected for their start; the buffer shown is m."""
    t, g = turn.number + 1, tensor.gradient
    m = 0.1 * g if tensor.buffer is None else 0.9 * tensor.buffer + 0.1 * g
    v = 0.999 * turn.memory.get(f"v {tensor.name}", 0.0) + 0.001 * g * g
    turn.memory[f"v {tensor.name}"] = v
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return tensor.value - turn.sgd.lr * step, m


def state_lost(left: Left) -> tuple[Arrays, Arrays]:
    """The optimizer's tensors are thrown away."""
    return left.moved, {}


def in_bfloat16(left: Left) -> tuple[Arrays, Arrays]:
    """They are stored in bfloat16; the update was made with what they were before."""
    return left.moved, {name: bfloat16(value) for name, value in left.kept.items()}


def with_state(change: Callable[[Left], tuple[Arrays, Arrays]]) -> Mutation:
    """The mutation, for programs whose optimizer keeps something."""

    def plant(host: Host) -> AnyImplementation:
        program, settings = host.implementation, host.settings
        state = program.start(host.problem.weights, settings.sgd, dtype="float64", device=program.devices()[0])
        after, _ = program.observe(state, program.place(state, *host.problem.train), host.batches[0])
        if not any(np.any(value) for value in program.momentum(after).values()):
            raise Inapplicable("its optimizer keeps nothing between steps")
        return outcome(change)(host)

    return plant


def backwards(left: Left) -> tuple[Arrays, Arrays]:
    """The update u taken off, not added."""
    return {name: 2 * before - left.moved[name] for name, before in left.weights.items()}, left.kept


def twice(left: Left) -> tuple[Arrays, Arrays]:
    """The update u added twice."""
    return {name: 2 * left.moved[name] - before for name, before in left.weights.items()}, left.kept


def tenfold(left: Left) -> tuple[Arrays, Arrays]:
    """The update u times ten."""
    return {name: before + 10 * (left.moved[name] - before) for name, before in left.weights.items()}, left.kept


CLIPPED_NORM, CLIPPED_VALUE = 4e-3, 1e-3
"""Below the first updates at this learning rate, which are 5.6e-3 long, their largest element 1.6e-3."""


def clipped_by_norm(left: Left) -> tuple[Arrays, Arrays]:
    """No update is longer, of all parameters together."""
    updates = {name: left.moved[name] - before for name, before in left.weights.items()}
    norm = float(np.sqrt(sum(np.sum(u * u) for u in updates.values())))
    factor = min(1.0, CLIPPED_NORM / norm) if norm else 1.0
    return {name: before + factor * updates[name] for name, before in left.weights.items()}, left.kept


def clipped_by_value(left: Left) -> tuple[Arrays, Arrays]:
    """No element of an update is larger."""
    return {
        name: before + np.clip(left.moved[name] - before, -CLIPPED_VALUE, CLIPPED_VALUE)
        for name, before in left.weights.items()
    }, left.kept


def largest_not_stepped(left: Left) -> tuple[Arrays, Arrays]:
    """The tensor with the most elements stays as it was; the optimizer's tensors go on."""
    largest = max(left.weights, key=lambda name: left.weights[name].size)
    return {**left.moved, largest: left.weights[largest]}, left.kept


def _momentum(key: str, title: str, plant: Mutation, *, first: int = 0, **more: Any) -> Fault:
    return Fault(key=key, title=title, stage="momentum", first=first, plant=plant, **more)


def _update(key: str, title: str, plant: Mutation, *, first: int = 0, **more: Any) -> Fault:
    return Fault(key=key, title=title, stage="update", first=first, plant=plant, **more)


def _rule(rule: Rule) -> Mutation:
    return optimize(rule)


def _set(**changes: Any) -> Callable[[SGD], SGD]:
    return lambda sgd: replace(sgd, **changes)


def _plain_momentum(momentum: float) -> Callable[[SGD], SGD]:
    """Torch has no nesterov's step and no dampening without momentum."""
    return _set(momentum=momentum, nesterov=False, dampening=0.0)


def _other_momentum(sgd: SGD) -> str | None:
    return with_momentum(sgd) or ("its momentum is 0.99" if sgd.momentum == 0.99 else None)


def _not_ahead(sgd: SGD) -> str | None:
    return with_momentum(sgd) or ("it looks ahead already, or has dampening" if sgd.nesterov or sgd.dampening else None)


NO_MOMENTUM = frozenset({"no-momentum", "momentum-state-lost"})
TWICE = frozenset({"other-lr", "update-twice"})

OPTIMIZER = (
    _momentum(
        "no-momentum",
        "the optimizer has no momentum",
        configure(momentum=0.0),
        names=NO_MOMENTUM,
        own=tune(_plain_momentum(0.0), needs=with_momentum),
    ),
    _momentum(
        "momentum-state-lost",
        "the momentum is thrown away after each step",
        with_state(state_lost),
        names=NO_MOMENTUM,
        scope=ANY,
    ),
    _momentum(
        "other-momentum",
        "momentum is 0.99, not 0.9",
        configure(momentum=0.99),
        first=1,
        own=tune(_set(momentum=0.99), needs=_other_momentum),
    ),
    _momentum("dampening-ignored", "dampening is left out", configure(dampening=0.0), first=1, probe=DAMPENED),
    _momentum(
        "dampening-added",
        "dampening is 0.3, not 0",
        configure(dampening=0.3),
        first=1,
        own=tune(_set(dampening=0.3), needs=_not_ahead),
    ),
    _momentum(
        "averaged-momentum",
        "the buffer is an average: (1 - mu) g",
        _rule(averaged),
        own=tune(rule=averaged, needs=plain),
    ),
    _update(
        "nesterov",
        "the momentum looks ahead",
        configure(nesterov=True),
        own=tune(_set(nesterov=True), needs=_not_ahead),
    ),
    _update(
        "nesterov-lost",
        "the momentum does not look ahead",
        configure(nesterov=False),
        own=tune(_set(nesterov=False), needs=with_lookahead),
        probe=AHEAD,
        names=frozenset({"nesterov", "nesterov-lost"}),
    ),
    _update("other-lr", "the learning rate is twice as large", configure(lr=2 * LR), names=TWICE, own=outcome(twice)),
    _update(
        "other-lr-tenfold",
        "the learning rate is ten times as large",
        configure(lr=10 * LR),
        own=outcome(tenfold),
        names=frozenset({"other-lr"}),
    ),
    _update("ascent", "the update has the other sign", outcome(backwards), scope=ANY),
    _momentum(
        "weight-decay-added",
        "a weight decay of 5e-4 is added",
        configure(weight_decay=5e-4),
        own=tune(_set(weight_decay=5e-4), needs=plain),
    ),
    _momentum(
        "weight-decay-added-tiny",
        "a weight decay of 1e-6 is added",
        configure(weight_decay=1e-6),
        own=tune(_set(weight_decay=1e-6), needs=plain),
        names=frozenset({"weight-decay-added"}),
    ),
    _momentum(
        "weight-decay-lost",
        "the weight decay is left out",
        configure(weight_decay=0.0),
        probe=DECAYED,
        own=tune(_set(weight_decay=0.0), needs=decaying),
    ),
    _momentum(
        "decay-on-biases",
        "biases decay too",
        configure(decay_biases=True),
        probe=WEIGHTS_DECAYED,
    ),
    _momentum("decay-on-biases-only", "biases decay, weights do not", _rule(decay_biases_only), probe=WEIGHTS_DECAYED),
    _momentum(
        "decoupled-decay",
        "the decay does not pass through the momentum",
        _rule(decoupled),
        probe=DECAYED,
        own=tune(rule=decoupled, needs=decaying),
    ),
    _update("lr-in-float32", "the learning rate is a float32 number", configure(lr=float(np.float32(LR)))),
    _momentum("momentum-in-bfloat16", "the momentum is kept in bfloat16", with_state(in_bfloat16), scope=ANY),
    _momentum(
        "gradient-accumulation",
        "gradients of two steps make one update",
        _rule(every_second_step),
        own=tune(rule=every_second_step, needs=with_momentum),
    ),
    _update("tensor-not-stepped", "one tensor is left out of the update", outcome(largest_not_stepped), scope=ANY),
    _update("update-clipped", "the update is clipped, not the gradient", outcome(clipped_by_norm)),
    _update("update-value-clipped", "the update's elements are clipped, not the gradient's", outcome(clipped_by_value)),
    _update("update-twice", "the update is applied twice", outcome(twice), names=TWICE, scope=ANY),
    _momentum("adam", "Adam in place of SGD", _rule(adam)),
)
