"""Runs whose rule is known: drawn rules, drawn constants, on the tutorial's CNN and on convex problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.contract import SGD, Stream, initial_weights
from parity.data import Dataset
from parity.measurements.draws import choose
from parity.measurements.optimizers import Optimizer, Truth
from parity.oracle import impl as oracle

__all__ = ["STEPS", "KnownRun", "draw_run"]

Floats = NDArray[np.floating]
Tensors = dict[str, Floats]
Gradients = Callable[[Mapping[str, Floats]], Tensors]

STEPS = 50
_PURPOSE = 9  # keeps this random stream apart from other streams of the same seed


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A recorded run with what made it: (steps + 1) parameters, (steps) gradients, the rule, a rate per update."""

    problem: str
    truth: Truth
    schedule: str
    rates: tuple[float, ...]
    parameters: Sequence[Tensors]
    gradients: Sequence[Tensors]


def draw_run(number: int, dtype: str, dataset: Dataset) -> KnownRun:
    """Run number so and so: every fourth on the CNN, the others on least squares and logistic regression."""
    stream = Stream(number, _PURPOSE)
    problem = ("cnn", "least squares", "logistic", "least squares")[number % 4]
    begin, gradients = _cnn(stream, dataset) if problem == "cnn" else _convex(stream, problem)
    start = {name: value.astype(dtype) for name, value in begin.items()}
    truth, lr = _draw_rule(stream, tuple(start), math.sqrt(sum(np.square(g).sum() for g in gradients(start).values())))
    schedule, rates = _draw_schedule(stream, STEPS // truth.every)
    while True:
        run = _recorded(truth, [lr * rate for rate in rates], start, gradients, dtype)
        last = run[0][-1]
        if all(np.isfinite(value).all() and np.abs(value).max(initial=0) < 1e4 for value in last.values()):
            break
        lr /= 4  # it diverges
    scaled = tuple(lr * rate for rate in rates)
    return KnownRun(problem=problem, truth=truth, schedule=schedule, rates=scaled, parameters=run[0], gradients=run[1])


def _recorded(
    truth: Truth, rates: Sequence[float], start: Tensors, gradients: Gradients, dtype: str
) -> tuple[list[Tensors], list[Tensors]]:
    optimizer = Optimizer(truth, lambda update: rates[update])
    states, steps = [start], []
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            steps.append({name: value.astype(dtype) for name, value in gradients(states[-1]).items()})
            states.append(optimizer.step(states[-1], steps[-1]))
            if not all(np.isfinite(value).all() for value in states[-1].values()):
                break
    return states, steps


def _cnn(stream: Stream, dataset: Dataset) -> tuple[Tensors, Gradients]:
    """The tutorial's CNN on batches of four images, gradients by the NumPy oracle in float64."""
    seed = int(stream.integers(2**31 - 1, 1)[0])
    begin = initial_weights(seed)
    state = oracle.start(begin, SGD(lr=0.0, momentum=0.0), dtype="float64", device="cpu")
    rows = stream.integers(len(dataset.train_labels), 4 * STEPS)
    data = oracle.place(state, dataset.train_images[rows], dataset.train_labels[rows])
    step = iter(range(10**9))

    def gradients(parameters: Mapping[str, Floats]) -> Tensors:
        batch = (4 * (next(step) % STEPS) + np.arange(4)).astype(np.int32)
        here = oracle.restore(state, {name: value.astype(np.float64) for name, value in parameters.items()}, {})
        found = oracle.observe(here, data, batch)[1].gradients
        return {name: np.asarray(value, np.float64) for name, value in found.items()}

    return dict(begin), gradients


def _convex(stream: Stream, problem: str) -> tuple[Tensors, Gradients]:
    """Mean of squares or of cross entropies of a linear model with bias, on batches of 16 of 200 rows."""
    features, outputs = 5 + int(stream.integers(40, 1)[0]), 1 + int(stream.integers(5, 1)[0])
    outputs = max(outputs, 2) if problem == "logistic" else outputs
    x = _normal(stream, 200, features)
    y = _normal(stream, 200, outputs)
    classes = np.eye(outputs)[np.argmax(y, axis=1)]
    begin = {"weight": _normal(stream, features, outputs), "bias": _normal(stream, 1, outputs)[0]}

    def gradients(parameters: Mapping[str, Floats]) -> Tensors:
        rows = stream.integers(200, 16)
        scores = x[rows] @ parameters["weight"].astype(np.float64) + parameters["bias"]
        error = scores - y[rows] if problem == "least squares" else _softmax(scores) - classes[rows]
        return {"weight": x[rows].T @ error / 16, "bias": error.mean(axis=0)}

    return begin, gradients


def _softmax(scores: Floats) -> Floats:
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _normal(stream: Stream, rows: int, columns: int) -> NDArray[np.float64]:
    """Box and Muller's transform."""
    u, v = stream.uniform(rows * columns), stream.uniform(rows * columns)
    return np.asarray(np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)).reshape(rows, columns)


def _draw_rule(stream: Stream, names: tuple[str, ...], norm: float) -> tuple[Truth, float]:
    """A rule with all its constants, and a learning rate that suits it."""

    def uniform(low: float, high: float) -> float:
        return float(low + (high - low) * stream.uniform(1)[0])

    def chance(share: float) -> bool:
        return bool(stream.uniform(1)[0] < share)

    family = choose(stream, ("sgd", "sgd", "sgd", "sgd", "adam", "adam", "rmsprop", "adagrad", "lion"))
    c: dict[str, float] = {}
    truth = Truth(family=family, constants=c, maximize=chance(0.1))
    lr = 10 ** uniform(-3, -1.7)
    if family == "sgd":
        forms = ("none", "torch", "torch", "torch", "keras", "keras", "averaged", "debiased", "scaled")
        truth = replace(truth, form=choose(stream, forms))
    if family == "rmsprop":
        c["alpha"] = uniform(0.8, 0.995)
        truth = replace(truth, form=choose(stream, ("none", "torch", "keras")), centered=chance(0.3))
    if truth.form != "none":
        c["momentum"] = uniform(0.3, 0.98)
        truth = replace(truth, nesterov=truth.form in ("torch", "keras") and family == "sgd" and chance(0.4))
    if truth.form == "scaled" or (truth.form == "torch" and family == "sgd" and not truth.nesterov and chance(0.4)):
        c["dampening"] = uniform(0.1, 0.7)
    if family in ("adam", "lion"):
        c |= {"b1": uniform(0.6, 0.95), "b2": uniform(0.9, 0.9995)}
    if family == "lion":
        lr = 10 ** uniform(-4, -2)
    if family in ("adam", "rmsprop", "adagrad"):
        where = choose(stream, ("eps", "eps", "eps_root", "both" if family == "adam" else "eps"))
        c |= {name: 10 ** uniform(-8, -4) for name in (("eps", "eps_root") if where == "both" else (where,))}
    if family == "adagrad" and chance(0.5):
        c["initial_accumulator"] = uniform(0.01, 0.5)
    if chance(0.5):
        kinds = ("coupled", "decoupled", "constant") if family != "lion" else ("decoupled",)
        truth = replace(truth, decay=choose(stream, kinds))
        c["weight_decay"] = 10 ** uniform(-3, -1) * (lr if truth.decay == "constant" else 1)
        biases = tuple(name for name in names if name.endswith("bias"))
        truth = replace(truth, undecayed=biases if chance(0.4) else ())
    if family != "lion" and chance(0.25):
        clip = choose(stream, ("norm", "norm", "exact", "value"))
        truth = replace(truth, clip=clip)
        c["clip_value" if clip == "value" else "max_norm"] = norm * (0.01 if clip == "value" else 1) * uniform(0.4, 0.9)
    if chance(0.12):
        truth = replace(truth, every=choose(stream, (2, 3, 4)), summed=chance(0.5))
    if len(names) > 2 and chance(0.2):
        truth = replace(truth, frozen=(choose(stream, names),))
    return truth, lr


def _draw_schedule(stream: Stream, updates: int) -> tuple[str, list[float]]:
    """Factors of the learning rate, one for each update, by torch's formulas."""
    t = np.arange(updates)
    draw = [float(value) for value in stream.uniform(4)]
    share = updates / 50
    period = updates * (0.6 + 1.4 * draw[1])
    rise = max(2, int((5 + 20 * draw[1]) * share))
    total, top = int(updates * (1 + draw[1])), 0.0
    schedules = {
        "constant": np.ones(updates),
        "step": (0.2 + 0.6 * draw[0]) ** (t // max(3, int((5 + 20 * draw[1]) * share))),
        "multi-step": (0.2 + 0.6 * draw[0])
        ** np.searchsorted(
            [int(updates * (0.2 + 0.2 * draw[1])), int(updates * (0.65 + 0.2 * draw[2]))], t, side="right"
        ),
        "exponential": (0.92 + 0.07 * draw[0]) ** t,
        "linear": 1 - (0.3 + 0.5 * draw[0]) * np.minimum(t / rise, 1),
        "warm-up": 0.1 + 0.5 * draw[0] + (0.9 - 0.5 * draw[0]) * np.minimum(t / rise, 1),
        "cosine": 0.2 * draw[0] + (1 - 0.2 * draw[0]) * (1 + np.cos(np.pi * t / period)) / 2,
        "polynomial": np.maximum(1 - t / total, 0) ** (1.5 + 1.5 * draw[0]),
    }
    top = (0.2 + 0.3 * draw[0]) * total - 1
    up = 1 + (0.04 - 1) * (1 + np.cos(np.pi * t / top)) / 2
    down = 4e-6 + (1 - 4e-6) * (1 + np.cos(np.pi * (t - top) / (total - 1 - top))) / 2
    schedules["one-cycle"] = np.where(t <= top, up, down)
    schedules["warm-up, then cosine"] = np.concatenate(
        [np.linspace(0.1, 1, rise, endpoint=False), (1 + np.cos(np.pi * np.arange(updates - rise) / period)) / 2]
    )
    name = choose(stream, ("constant", "constant", "constant", *schedules))
    return name, [float(value) for value in schedules[name]]
