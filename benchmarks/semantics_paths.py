"""The descent that SGD's forms are compared on: 50 steps of torch.optim.SGD, of an optax chain, or of a NumPy rule.

All three are given gradients from the same hand-written NumPy function, in float64, so that their parameters differ by
what the optimizer does and by nothing else. The problem is a regression with a robust loss, in batches of 4 of 24 rows:

    f(W, b) = mean over the batch of log cosh(x W + b - y),   gradient by r = x W + b - y:  tanh(r) / 4
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from numpy.typing import NDArray
from torch import nn

from parity.study.rules import Rule

LR, MOMENTUM, DECAY, DAMPENING = 0.05, 0.9, 0.05, 0.3
STEPS, BATCH, ROWS = 50, 4, 24

Array = NDArray[np.float64]
Tensors = dict[str, Array]
Path = list[Tensors]
Gradient = Callable[[Mapping[str, Array], int], Tensors]
Measurement = Callable[[], float]

_RNG = np.random.default_rng(0)
INPUTS, TARGETS = _RNG.normal(size=(ROWS, 6)), 2 * _RNG.normal(size=(ROWS, 3))
START: Tensors = {"weight": _RNG.normal(size=(6, 3)), "bias": _RNG.normal(size=3)}


@contextmanager
def on_cpu(*, x64: bool = True) -> Iterator[None]:
    """Within it, JAX computes on the CPU, with 64-bit types or without: what is measured does not depend on a GPU."""
    with jax.enable_x64(x64), jax.default_device(jax.devices("cpu")[0]):
        yield


def gradient(p: Mapping[str, Array], step: int) -> Tensors:
    """Of the batch of this step."""
    return batch_gradient(p, np.arange(step * BATCH, (step + 1) * BATCH) % ROWS)


def batch_gradient(p: Mapping[str, Array], rows: NDArray[np.integer]) -> Tensors:
    """Of the mean over these rows."""
    residual = np.tanh(INPUTS[rows] @ p["weight"] + p["bias"] - TARGETS[rows]) / len(rows)
    return {"weight": INPUTS[rows].T @ residual, "bias": residual.sum(axis=0)}


def torch_path(
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    clip: Callable[[Iterable[nn.Parameter]], Any] | None = None,
    groups: Callable[[Mapping[str, nn.Parameter]], Any] | None = None,
    gradient: Gradient = gradient,
    **arguments: Any,
) -> Path:
    """What torch.optim.SGD(lr=LR, **arguments) makes of the problem; gradients that are left out stay None."""
    p = {name: nn.Parameter(torch.tensor(value)) for name, value in START.items()}
    optimizer = torch.optim.SGD(groups(p) if groups else list(p.values()), **{"lr": LR, **arguments})
    schedule = scheduler(optimizer) if scheduler else None
    path = []
    for step in range(STEPS):
        found = gradient({name: value.detach().numpy() for name, value in p.items()}, step)
        for name, value in p.items():
            value.grad = torch.tensor(found[name]) if name in found else None
        if clip:
            clip(p.values())
        optimizer.step()
        if schedule:
            schedule.step()
        path.append({name: value.detach().numpy().copy() for name, value in p.items()})
    return path


def optax_path(chain: optax.GradientTransformation, gradient: Gradient = gradient, steps: int = STEPS) -> Path:
    """What the optax chain makes of it, with 64-bit types on, its update compiled."""
    with on_cpu():
        p = {name: jnp.array(value) for name, value in START.items()}
        state = chain.init(p)
        update = jax.jit(chain.update)
        path = []
        for step in range(steps):
            found = gradient({name: np.array(value) for name, value in p.items()}, step)
            updates, state = update({name: jnp.array(value) for name, value in found.items()}, state, p)
            p = optax.apply_updates(p, updates)
            path.append({name: np.array(value) for name, value in p.items()})
    return path


def rule_path(rule: Rule, gradient: Gradient = gradient) -> Path:
    """What a NumPy rule makes of it."""
    p, buffers = dict(START), dict.fromkeys(START)
    path = []
    for step in range(STEPS):
        found = gradient(p, step)
        for name, g in found.items():
            p[name], buffers[name] = rule(p[name], g, buffers[name], step)
        path.append(dict(p))
    return path


def difference(a: Path, b: Path) -> float:
    """The largest absolute difference of a parameter, after any step."""
    return max(float(np.abs(p[name] - q[name]).max()) for p, q in zip(a, b, strict=True) for name in START)
