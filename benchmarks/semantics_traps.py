"""The size of each trap in docs/semantics.md, as one number by name; and the pairs that no record can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from numpy.typing import NDArray
from torch.optim import lr_scheduler

from benchmarks.semantics_counts import schedule_values
from benchmarks.semantics_paths import (
    BATCH,
    DAMPENING,
    DECAY,
    LR,
    MOMENTUM,
    ROWS,
    START,
    STEPS,
    Measurement,
    Path,
    Tensors,
    batch_gradient,
    difference,
    gradient,
    on_cpu,
    optax_path,
    rule_path,
    torch_path,
)
from parity.contract import SGD, StepLR
from parity.study.rules import Rule, averaged, debiased, decoupled, keras, scaled, torch_form

BASE = SGD(lr=LR, momentum=MOMENTUM)
STEPPED = replace(BASE, schedule=StepLR(step_size=10, gamma=0.5))
MOM = {"momentum": MOMENTUM}


def stepped(optimizer: torch.optim.Optimizer) -> Any:
    """StepLR(10, 0.5)."""
    return lr_scheduler.StepLR(optimizer, 10, 0.5)


def forms() -> Mapping[str, Measurement]:
    """torch.optim.SGD beside the NumPy rules of other programs' forms."""
    dampened = replace(BASE, dampening=MOMENTUM)
    return {
        "keras-constant": lambda: difference(torch_path(**MOM), rule_path(keras(BASE))),
        "keras-nesterov-constant": lambda: difference(
            torch_path(**MOM, nesterov=True), rule_path(keras(replace(BASE, nesterov=True)))
        ),
        "keras-step": lambda: difference(torch_path(**MOM, scheduler=stepped), rule_path(keras(STEPPED))),
        "averaged-rescaled": lambda: difference(
            torch_path(**MOM), rule_path(averaged(replace(BASE, lr=LR / (1 - MOMENTUM))))
        ),
        "averaged": lambda: difference(torch_path(**MOM, dampening=MOMENTUM), rule_path(averaged(BASE))),
        "debiased": lambda: difference(torch_path(**MOM, dampening=MOMENTUM), rule_path(debiased(BASE))),
        "scaled": lambda: difference(
            torch_path(**MOM, dampening=DAMPENING), rule_path(scaled(replace(BASE, dampening=DAMPENING)))
        ),
        "scaled-full": lambda: difference(torch_path(**MOM, dampening=MOMENTUM), rule_path(scaled(dampened))),
        "decoupled": lambda: difference(
            torch_path(**MOM, weight_decay=DECAY), rule_path(decoupled(replace(BASE, weight_decay=DECAY)))
        ),
        "decoupled-no-momentum": lambda: difference(
            torch_path(weight_decay=DECAY), rule_path(decoupled(SGD(lr=LR, momentum=0.0, weight_decay=DECAY)))
        ),
    }


LATE = 10


def bias_from_late(p: Mapping[str, Any], step: int) -> Tensors:
    """The bias has no gradient before step LATE: frozen until then."""
    found = gradient(p, step)
    return found if step >= LATE else {"weight": found["weight"]}


def bias_zero_until_late(p: Mapping[str, Any], step: int) -> Tensors:
    """The bias has a gradient of zeros before step LATE, which is what JAX gives."""
    found = gradient(p, step)
    return found if step >= LATE else {**found, "bias": np.zeros_like(found["bias"])}


def bias_until_late(p: Mapping[str, Any], step: int) -> Tensors:
    """The bias has no gradient from step LATE on."""
    found = gradient(p, step)
    return found if step < LATE else {"weight": found["weight"]}


def bias_zero_from_late(p: Mapping[str, Any], step: int) -> Tensors:
    """The bias has a gradient of zeros from step LATE on."""
    found = gradient(p, step)
    return found if step < LATE else {**found, "bias": np.zeros_like(found["bias"])}


def bias_moves(path: Path, first: int) -> float:
    """The largest movement of a bias from this step on."""
    return float(max(np.abs(p["bias"] - path[first]["bias"]).max() for p in path[first:]))


RESTART = 25


def forgetful(rule: Rule) -> Rule:
    """The rule in a program that goes on at step RESTART from its parameters alone."""
    return lambda p, g, b, t: rule(p, g, None if t == RESTART else b, t)


def first_steps() -> Mapping[str, Measurement]:
    """Gradients that are missing, or zero, on one side; and a buffer that is forgotten."""
    late = {**MOM, "dampening": DAMPENING}
    return {
        "missing-gradient-moves": lambda: bias_moves(torch_path(**MOM, gradient=bias_until_late), LATE - 1),
        "zero-gradient-moves": lambda: bias_moves(torch_path(**MOM, gradient=bias_zero_from_late), LATE - 1),
        "zero-gradient-moves-optax": lambda: bias_moves(
            optax_path(optax.sgd(LR, **MOM), gradient=bias_zero_from_late), LATE - 1
        ),
        "unfrozen-late-dampened": lambda: difference(
            torch_path(**late, gradient=bias_from_late), torch_path(**late, gradient=bias_zero_until_late)
        ),
        "restart": lambda: difference(torch_path(**MOM), rule_path(forgetful(torch_form(BASE)))),
        "unfrozen-late": lambda: difference(
            torch_path(**MOM, gradient=bias_from_late), torch_path(**MOM, gradient=bias_zero_until_late)
        ),
    }


def halves(p: Mapping[str, Any], step: int) -> Tensors:
    """Half the batch of each pair of steps: what an accumulation of two sees."""
    return batch_gradient(p, np.arange(step * BATCH // 2, (step + 1) * BATCH // 2) % ROWS)


def accumulated(**arguments: Any) -> Path:
    """optax.MultiSteps over two halves of each batch; the parameters after every second."""
    chain = optax.MultiSteps(optax.sgd(LR, **MOM), every_k_schedule=2, **arguments).gradient_transformation()
    return optax_path(chain, gradient=halves, steps=2 * STEPS)[1::2]


def summed(p: Mapping[str, Any], step: int) -> Tensors:
    """Two backward passes without dividing the loss by two, as torch programs often do."""
    return {name: 2 * value for name, value in gradient(p, step).items()}


def precisions() -> Mapping[str, Measurement]:
    """Numbers of lower precision in a float64 program, and torch's implementations of one update."""
    return {
        "tensor-lr-float32": lambda: difference(torch_path(**MOM), torch_path(**MOM, lr=torch.tensor(LR))),
        "inject-hyperparams": lambda: difference(
            torch_path(**MOM), optax_path(optax.inject_hyperparams(optax.sgd)(learning_rate=LR, momentum=MOMENTUM))
        ),
        "multisteps": lambda: difference(torch_path(**MOM), accumulated()),
        "accumulation-sum": lambda: difference(torch_path(**MOM), torch_path(**MOM, gradient=summed)),
        "foreach": lambda: difference(torch_path(**MOM, foreach=False), torch_path(**MOM, foreach=True)),
        "fused": lambda: difference(torch_path(**MOM, foreach=False), torch_path(**MOM, fused=True)),
        "fma-xla": lambda: unequal(_fused_jax),
        "fma-torch": lambda: unequal(_fused_torch),
        "flushed-xla": lambda: flushed(_half_jax),
        "flushed-torch": lambda: flushed(_half_torch),
    }


Float32 = NDArray[np.float32]


def unequal(compute: Callable[[Float32, Float32, Float32], Float32], size: int = 100_000) -> float:
    """The share of float32 results of a b + c that are not those of two roundings."""
    a, b, c = np.random.default_rng(1).normal(size=(3, size)).astype(np.float32)
    return float(np.mean(compute(a, b, c) != a * b + c))


def _fused_jax(a: Float32, b: Float32, c: Float32) -> Float32:
    with on_cpu():
        return np.array(jax.jit(lambda a, b, c: a * b + c)(a, b, c))


def _fused_torch(a: Float32, b: Float32, c: Float32) -> Float32:
    product: Float32 = (torch.tensor(a) * torch.tensor(b) + torch.tensor(c)).numpy()
    return product


def flushed(halve: Callable[[Float32], Float32]) -> float:
    """The share of subnormal float32 numbers whose half becomes 0."""
    tiny = (np.arange(1, 1001) * 1e-42).astype(np.float32)
    return float(np.mean(halve(tiny) == 0))


def _half_jax(x: Float32) -> Float32:
    with on_cpu():
        return np.array(jax.jit(lambda x: x * jnp.float32(0.5))(x))


def _half_torch(x: Float32) -> Float32:
    half: Float32 = (torch.tensor(x) * 0.5).numpy()
    return half


def clipped_length(norm: float) -> float:
    """By what share optax.clip_by_global_norm's result is longer than torch's, for a gradient twice as long as c."""
    found = {"p": np.array([0.6, 0.8]) * 2 * norm}
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.tensor(found["p"])
    torch.nn.utils.clip_grad_norm_([p], norm)
    with on_cpu():
        theirs, _ = optax.clip_by_global_norm(norm).update({"p": jnp.array(found["p"])}, optax.EmptyState())
        return float(np.linalg.norm(theirs["p"]) / np.linalg.norm(p.grad.numpy()) - 1)


def clipping() -> Mapping[str, Measurement]:
    """At three sizes of gradient."""
    return {
        "clip-epsilon-small": lambda: clipped_length(0.5e-3),
        "clip-epsilon-one": lambda: clipped_length(0.5),
        "clip-epsilon-large": lambda: clipped_length(0.5e3),
    }


def scaled_loss(factor: float) -> Callable[[Mapping[str, Any], int], Tensors]:
    """Gradients of a loss times this factor."""
    return lambda p, step: {name: factor * value for name, value in gradient(p, step).items()}


def added_halves(p: Mapping[str, Any], step: int) -> Tensors:
    """Two backward passes, each of half the batch and of half its loss."""
    first, second = halves(p, 2 * step), halves(p, 2 * step + 1)
    return {name: value / 2 + second[name] / 2 for name, value in first.items()}


def penalised(p: Mapping[str, Any], step: int) -> Tensors:
    """Gradients of the loss with |p|^2 DECAY / 2 added."""
    return {name: value + DECAY * p[name] for name, value in gradient(p, step).items()}


def alike() -> Mapping[str, tuple[str, str, str, Measurement]]:
    """Pairs with the same parameters: what each is, what tells them apart, and how far apart they are."""
    return {
        "alike-loss-scale": (
            "loss times 8, lr / 8",
            "loss, lr",
            "the losses, which differ by the factor; or clipping or decay, which break the tie",
            lambda: difference(torch_path(**MOM), torch_path(**MOM, lr=LR / 8, gradient=scaled_loss(8.0))),
        ),
        "alike-keras": (
            "Keras' form, constant lr",
            "torch's form, constant lr",
            "one change of lr; or the buffers themselves",
            forms()["keras-constant"],
        ),
        "alike-averaged": (
            "averaged buffer, lr / (1 - mu)",
            "torch's buffer, lr",
            "the lr that was set; or the buffers themselves",
            forms()["averaged-rescaled"],
        ),
        "alike-decay": (
            "decoupled decay, momentum 0",
            "coupled decay, momentum 0",
            "momentum",
            forms()["decoupled-no-momentum"],
        ),
        "alike-penalty": (
            "wd |p|^2 / 2 added to the loss",
            "weight_decay=wd",
            "the losses, or the gradients before the optimizer",
            lambda: difference(torch_path(**MOM, weight_decay=DECAY), torch_path(**MOM, gradient=penalised)),
        ),
        "alike-maximize": (
            "maximize=True on minus the loss",
            "the loss",
            "the sign of the losses",
            lambda: difference(torch_path(**MOM), torch_path(**MOM, maximize=True, gradient=scaled_loss(-1.0))),
        ),
        "alike-clip": (
            "clip_grad_norm_ at 1000, never reached",
            "no clipping",
            "one gradient that is longer than the limit",
            lambda: difference(
                torch_path(**MOM), torch_path(**MOM, clip=lambda p: torch.nn.utils.clip_grad_norm_(p, 1000.0))
            ),
        ),
        "alike-dampening-zero": (
            "dampening=0.3, momentum=0",
            "dampening=0, momentum=0",
            "momentum",
            lambda: difference(torch_path(), torch_path(dampening=DAMPENING)),
        ),
        "alike-accumulation": (
            "gradients of two half batches, each of its loss / 2, added up",
            "the whole batch at once",
            "batch norm, which sees the halves; a batch that does not halve",
            lambda: difference(torch_path(**MOM), torch_path(**MOM, gradient=added_halves)),
        ),
    }


def alike_rows() -> list[dict[str, Any]]:
    """The rows, measured."""
    return [
        {"key": key, "one": one, "other": other, "apart": apart, "difference": measure()}
        for key, (one, other, apart, measure) in alike().items()
    ]


def travelled() -> float:
    """How far the parameter that moves furthest is from its start: what differences are to be held against."""
    path = torch_path(**MOM)
    return max(float(np.abs(p[name] - START[name]).max()) for p in path for name in START)


def defaults() -> dict[str, str]:
    """How the installed packages compute float32 unless told otherwise, and what JAX makes of float64."""
    with on_cpu(x64=False):
        made_of_float64 = str(jnp.asarray(np.zeros(1)).dtype)
    precision = jax.config.jax_default_matmul_precision
    return {
        "torch.backends.cuda.matmul.fp32_precision": str(torch.backends.cuda.matmul.fp32_precision),
        "torch.backends.cudnn.conv.fp32_precision": str(torch.backends.cudnn.conv.fp32_precision),
        "torch.backends.cudnn.rnn.fp32_precision": str(torch.backends.cudnn.rnn.fp32_precision),
        "torch.backends.cuda.matmul.allow_tf32": str(torch.backends.cuda.matmul.allow_tf32),
        "torch.backends.cudnn.allow_tf32": str(torch.backends.cudnn.allow_tf32),
        "torch.backends.cudnn.benchmark": str(torch.backends.cudnn.benchmark),
        "torch.are_deterministic_algorithms_enabled()": str(torch.are_deterministic_algorithms_enabled()),
        "jax.config.jax_default_matmul_precision": str(precision),
        "jax.config.jax_enable_x64": str(jax.config.jax_enable_x64),
        "jnp.asarray of a float64 array": made_of_float64,
    }


def measurements() -> Mapping[str, Measurement]:
    """All single numbers by name."""
    return {
        **forms(),
        **first_steps(),
        **precisions(),
        **schedule_values(),
        **clipping(),
        "travelled": travelled,
    }
