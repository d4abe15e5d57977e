"""Which optax chain is which torch.optim.SGD: rows of code on both sides, each measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import optax
from torch import nn
from torch.optim import lr_scheduler

from benchmarks.semantics_paths import DAMPENING, DECAY, LR, MOMENTUM, Path, difference, optax_path, torch_path

EXACT = 1e-13
"""Each of 50 steps rounds a parameter (below 32, where it climbs) once and its update less: 50 x 32 x 1.1e-16 / 2 is
9e-14 if all pointed one way. The least of the true differences is a hundred thousand times as large."""

D, MU, WD = DAMPENING, MOMENTUM, DECAY


@dataclass(frozen=True, kw_only=True)
class Row:
    """Two lines of code that should do the same, or that are often taken to.

    Args:
        key: its name in the file of results.
        torch: as it is written; words after a #.
        torch_path: what it does.
        optax: likewise.
        chain: what it is.
        same: whether the two are equal up to rounding.
    """

    key: str
    torch: str
    torch_path: Callable[[], Path]
    optax: str
    chain: Callable[[], optax.GradientTransformation]
    same: bool = True

    def measure(self) -> dict[str, Any]:
        """The row, with the largest difference of a parameter."""
        apart = difference(self.torch_path(), optax_path(self.chain()))
        return {"key": self.key, "torch": self.torch, "optax": self.optax, "same": self.same, "difference": apart}


@dataclass(frozen=True)
class Torch:
    """torch.optim.SGD with these arguments."""

    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Path:
        """What it does."""
        return torch_path(**self.arguments)


def dampen(dampening: float) -> optax.GradientTransformation:
    """Scale gradients by 1 - dampening from the second step on."""
    return optax.scale_by_schedule(lambda count: jnp.where(count == 0, 1.0, 1.0 - dampening))


def negated(chain: optax.GradientTransformation) -> optax.GradientTransformation:
    """After a change of sign of the gradient."""
    return optax.chain(optax.scale(-1.0), chain)


def decayed(chain: optax.GradientTransformation, **arguments: Any) -> optax.GradientTransformation:
    """After adding the decay to the gradient."""
    return optax.chain(optax.add_decayed_weights(WD, **arguments), chain)


def no_bias_decay(p: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Two groups."""
    return [{"params": [p["weight"]], "weight_decay": WD}, {"params": [p["bias"]], "weight_decay": 0.0}]


def sgd(**arguments: Any) -> optax.GradientTransformation:
    """optax.sgd at the common learning rate."""
    return optax.sgd(LR, **arguments)


MOM = {"momentum": MU}
ARGUMENT_ROWS = (
    Row(key="plain", torch="SGD(lr)", torch_path=Torch(), optax="sgd(lr)", chain=sgd),
    Row(
        key="momentum-zero",
        torch="SGD(lr, momentum=0)",
        torch_path=Torch(),
        optax="sgd(lr, 0.0)",
        chain=lambda: sgd(momentum=0.0),
    ),
    Row(key="momentum", torch="momentum=mu", torch_path=Torch(MOM), optax="sgd(lr, mu)", chain=lambda: sgd(**MOM)),
    Row(
        key="nesterov",
        torch="momentum=mu, nesterov=True",
        torch_path=Torch({**MOM, "nesterov": True}),
        optax="sgd(lr, mu, nesterov=True)",
        chain=lambda: sgd(**MOM, nesterov=True),
    ),
    Row(
        key="decay",
        torch="momentum=mu, weight_decay=wd",
        torch_path=Torch({**MOM, "weight_decay": WD}),
        optax="chain(add_decayed_weights(wd), sgd(lr, mu))",
        chain=lambda: decayed(sgd(**MOM)),
    ),
    Row(
        key="decay-nesterov",
        torch="momentum=mu, weight_decay=wd, nesterov=True",
        torch_path=Torch({**MOM, "weight_decay": WD, "nesterov": True}),
        optax="chain(add_decayed_weights(wd), sgd(lr, mu, nesterov=True))",
        chain=lambda: decayed(sgd(**MOM, nesterov=True)),
    ),
    Row(
        key="decay-groups",
        torch="groups: weight_decay=wd  # on weights, 0 on biases",
        torch_path=Torch({**MOM, "groups": no_bias_decay}),
        optax="chain(add_decayed_weights(wd, mask={weight: True, bias: False}), sgd(lr, mu))",
        chain=lambda: decayed(sgd(**MOM), mask={"weight": True, "bias": False}),
    ),
    Row(
        key="dampening",
        torch="momentum=mu, dampening=d",
        torch_path=Torch({**MOM, "dampening": D}),
        optax="chain(scale_by_schedule(lambda n: where(n == 0, 1, 1 - d)), sgd(lr, mu))",
        chain=lambda: optax.chain(dampen(D), sgd(**MOM)),
    ),
    Row(
        key="dampening-decay",
        torch="momentum=mu, dampening=d, weight_decay=wd",
        torch_path=Torch({**MOM, "dampening": D, "weight_decay": WD}),
        optax="chain(add_decayed_weights(wd), scale_by_schedule(...), sgd(lr, mu))  # as above",
        chain=lambda: decayed(optax.chain(dampen(D), sgd(**MOM))),
    ),
    Row(
        key="maximize",
        torch="momentum=mu, maximize=True",
        torch_path=Torch({**MOM, "maximize": True}),
        optax="chain(scale(-1), sgd(lr, mu))",
        chain=lambda: negated(sgd(**MOM)),
    ),
    Row(
        key="maximize-decay",
        torch="momentum=mu, weight_decay=wd, maximize=True",
        torch_path=Torch({**MOM, "weight_decay": WD, "maximize": True}),
        optax="chain(scale(-1), add_decayed_weights(wd), sgd(lr, mu))",
        chain=lambda: negated(decayed(sgd(**MOM))),
    ),
)

WRONG_ROWS = (
    Row(
        key="wrong-dampening-scaled",
        torch="momentum=mu, dampening=d",
        torch_path=Torch({**MOM, "dampening": D}),
        optax="chain(scale(1 - d), sgd(lr, mu))  # the first gradient is scaled too",
        chain=lambda: optax.chain(optax.scale(1 - D), sgd(**MOM)),
        same=False,
    ),
    Row(
        key="wrong-ema",
        torch="momentum=mu, dampening=mu",
        torch_path=Torch({**MOM, "dampening": MU}),
        optax="chain(ema(mu, debias=False), scale(-lr))",
        chain=lambda: optax.chain(optax.ema(MU, debias=False), optax.scale(-LR)),
        same=False,
    ),
    Row(
        key="wrong-ema-debiased",
        torch="momentum=mu, dampening=mu",
        torch_path=Torch({**MOM, "dampening": MU}),
        optax="chain(ema(mu), scale(-lr))  # debiased",
        chain=lambda: optax.chain(optax.ema(MU), optax.scale(-LR)),
        same=False,
    ),
    Row(
        key="wrong-decay-after-trace",
        torch="momentum=mu, weight_decay=wd",
        torch_path=Torch({**MOM, "weight_decay": WD}),
        optax="chain(trace(mu), add_decayed_weights(wd), scale(-lr))  # decoupled",
        chain=lambda: optax.chain(optax.trace(MU), optax.add_decayed_weights(WD), optax.scale(-LR)),
        same=False,
    ),
    Row(
        key="wrong-decay-after-sgd",
        torch="momentum=mu, weight_decay=wd",
        torch_path=Torch({**MOM, "weight_decay": WD}),
        optax="chain(sgd(lr, mu), add_decayed_weights(wd))  # grows the weights",
        chain=lambda: optax.chain(sgd(**MOM), optax.add_decayed_weights(WD)),
        same=False,
    ),
    Row(
        key="wrong-maximize-negative-lr",
        torch="momentum=mu, weight_decay=wd, maximize=True",
        torch_path=Torch({**MOM, "weight_decay": WD, "maximize": True}),
        optax="chain(add_decayed_weights(wd), sgd(-lr, mu))  # the decay climbs too",
        chain=lambda: decayed(optax.sgd(-LR, **MOM)),
        same=False,
    ),
    Row(
        key="wrong-bias-decay",
        torch="groups: weight_decay=wd  # on weights, 0 on biases",
        torch_path=Torch({**MOM, "groups": no_bias_decay}),
        optax="chain(add_decayed_weights(wd), sgd(lr, mu))  # biases decay too",
        chain=lambda: decayed(sgd(**MOM)),
        same=False,
    ),
    Row(
        key="wrong-accumulator",
        torch="momentum=mu",
        torch_path=Torch(MOM),
        optax="sgd(lr, mu, accumulator_dtype=bfloat16)  # the stored buffer is rounded",
        chain=lambda: sgd(**MOM, accumulator_dtype=jnp.bfloat16),
        same=False,
    ),
)


def scheduled(make: Callable[..., Any], *arguments: Any, **named: Any) -> Torch:
    """Torch's SGD with momentum and one of its schedulers."""
    return Torch({**MOM, "scheduler": lambda optimizer: make(optimizer, *arguments, **named)})


def at(schedule: optax.Schedule) -> Callable[[], optax.GradientTransformation]:
    """optax.sgd with momentum at this schedule."""
    return lambda: optax.sgd(schedule, **MOM)


def warm_up_torch(optimizer: Any) -> Any:
    """Ten counts of warm-up, then a cosine."""
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 10), lr_scheduler.CosineAnnealingLR(optimizer, 40)]
    return lr_scheduler.SequentialLR(optimizer, parts, [10])


def warm_up_optax() -> optax.Schedule:
    """The same."""
    parts = [optax.linear_schedule(0.1 * LR, LR, 10), optax.cosine_decay_schedule(LR, 40)]
    return optax.join_schedules(parts, [10])


SCHEDULE_ROWS = (
    Row(
        key="step-piecewise",
        torch="StepLR(10, 0.5)",
        torch_path=scheduled(lr_scheduler.StepLR, 10, 0.5),
        optax="piecewise_constant_schedule(lr, {10: .5, 20: .5, ...})",
        chain=at(optax.piecewise_constant_schedule(LR, dict.fromkeys(range(10, 60, 10), 0.5))),
    ),
    Row(
        key="multistep",
        torch="MultiStepLR([15, 30], 0.1)",
        torch_path=scheduled(lr_scheduler.MultiStepLR, [15, 30], 0.1),
        optax="piecewise_constant_schedule(lr, {15: .1, 30: .1})",
        chain=at(optax.piecewise_constant_schedule(LR, {15: 0.1, 30: 0.1})),
    ),
    Row(
        key="cosine",
        torch="CosineAnnealingLR(50)",
        torch_path=scheduled(lr_scheduler.CosineAnnealingLR, 50),
        optax="cosine_decay_schedule(lr, 50)",
        chain=at(optax.cosine_decay_schedule(LR, 50)),
    ),
    Row(
        key="step-staircase",
        torch="StepLR(10, 0.5)",
        torch_path=scheduled(lr_scheduler.StepLR, 10, 0.5),
        optax="exponential_decay(lr, 10, .5, staircase=True)",
        chain=at(optax.exponential_decay(LR, 10, 0.5, staircase=True)),
        same=False,
    ),
    Row(
        key="exponential",
        torch="ExponentialLR(0.95)",
        torch_path=scheduled(lr_scheduler.ExponentialLR, 0.95),
        optax="exponential_decay(lr, 1, .95)",
        chain=at(optax.exponential_decay(LR, 1, 0.95)),
        same=False,
    ),
    Row(
        key="linear",
        torch="LinearLR(1/3, 1, 30)",
        torch_path=scheduled(lr_scheduler.LinearLR, 1 / 3, 1.0, 30),
        optax="linear_schedule(lr / 3, lr, 30)",
        chain=at(optax.linear_schedule(LR / 3, LR, 30)),
        same=False,
    ),
    Row(
        key="polynomial",
        torch="PolynomialLR(45, 2)",
        torch_path=scheduled(lr_scheduler.PolynomialLR, 45, 2.0),
        optax="polynomial_schedule(lr, 0, 2, 45)",
        chain=at(optax.polynomial_schedule(LR, 0.0, 2.0, 45)),
        same=False,
    ),
    Row(
        key="sequential",
        torch="SequentialLR([LinearLR(.1, 1, 10), CosineAnnealingLR(40)], [10])",
        torch_path=Torch({**MOM, "scheduler": warm_up_torch}),
        optax="join_schedules([linear_schedule(.1 lr, lr, 10), cosine_decay_schedule(lr, 40)], [10])",
        chain=at(warm_up_optax()),
        same=False,
    ),
    Row(
        key="cosine-after-end",
        torch="CosineAnnealingLR(25)  # which rises again",
        torch_path=scheduled(lr_scheduler.CosineAnnealingLR, 25),
        optax="cosine_decay_schedule(lr, 25)  # which stays at 0",
        chain=at(optax.cosine_decay_schedule(LR, 25)),
        same=False,
    ),
    Row(
        key="one-cycle",
        torch="OneCycleLR(lr, total_steps=50, cycle_momentum=False)",
        torch_path=scheduled(lr_scheduler.OneCycleLR, LR, total_steps=50, cycle_momentum=False),
        optax="cosine_onecycle_schedule(50, lr)",
        chain=at(optax.cosine_onecycle_schedule(50, LR)),
        same=False,
    ),
    Row(
        key="one-step-early",
        torch="StepLR(10, 0.5)",
        torch_path=scheduled(lr_scheduler.StepLR, 10, 0.5),
        optax="piecewise_constant_schedule(lr, {9: .5, 19: .5, ...})  # a step early",
        chain=at(optax.piecewise_constant_schedule(LR, dict.fromkeys(range(9, 60, 10), 0.5))),
        same=False,
    ),
    Row(
        key="one-step-late",
        torch="StepLR(10, 0.5)",
        torch_path=scheduled(lr_scheduler.StepLR, 10, 0.5),
        optax="piecewise_constant_schedule(lr, {11: .5, 21: .5, ...})  # a step late",
        chain=at(optax.piecewise_constant_schedule(LR, dict.fromkeys(range(11, 60, 10), 0.5))),
        same=False,
    ),
)

CLIP_NORM, CLIP_VALUE = 0.5, 0.1


def clip_norm(eps: float) -> optax.GradientTransformation:
    """All gradients together no longer than CLIP_NORM, with this epsilon."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:  # noqa: ARG001  optax's signature
        factor = jnp.minimum(CLIP_NORM / (optax.tree.norm(updates) + eps), 1.0)
        return optax.tree.scale(factor, updates), state

    return optax.GradientTransformation(lambda _params: optax.EmptyState(), update)


def by_norm(parameters: Any) -> None:
    """Torch's clipping by norm."""
    nn.utils.clip_grad_norm_(parameters, CLIP_NORM)


def by_value(parameters: Any) -> None:
    """Torch's clipping by value."""
    nn.utils.clip_grad_value_(parameters, CLIP_VALUE)


CLIPPED = Torch({**MOM, "weight_decay": WD, "clip": by_norm})
CLIP_ROWS = (
    Row(
        key="clip-value",
        torch="clip_grad_value_(p, c)",
        torch_path=Torch({**MOM, "clip": by_value}),
        optax="chain(clip(c), sgd(lr, mu))",
        chain=lambda: optax.chain(optax.clip(CLIP_VALUE), sgd(**MOM)),
    ),
    Row(
        key="clip-norm",
        torch="clip_grad_norm_(p, c)  # then weight_decay=wd",
        torch_path=CLIPPED,
        optax="chain(clip, add_decayed_weights(wd), sgd(lr, mu))  # own clip: g min(1, c / (norm + 1e-6))",
        chain=lambda: optax.chain(clip_norm(1e-6), decayed(sgd(**MOM))),
    ),
    Row(
        key="clip-norm-optax",
        torch="clip_grad_norm_(p, c)  # then weight_decay=wd",
        torch_path=CLIPPED,
        optax="chain(clip_by_global_norm(c), add_decayed_weights(wd), sgd(lr, mu))  # no epsilon",
        chain=lambda: optax.chain(optax.clip_by_global_norm(CLIP_NORM), decayed(sgd(**MOM))),
        same=False,
    ),
    Row(
        key="clip-after-decay",
        torch="clip_grad_norm_(p, c)  # then weight_decay=wd",
        torch_path=CLIPPED,
        optax="chain(add_decayed_weights(wd), clip, sgd(lr, mu))  # the decay is clipped too",
        chain=lambda: decayed(optax.chain(clip_norm(1e-6), sgd(**MOM))),
        same=False,
    ),
    Row(
        key="clip-per-tensor",
        torch="clip_grad_norm_(p, c)  # then weight_decay=wd",
        torch_path=CLIPPED,
        optax="chain(clip_by_block_rms(c), ...)  # each tensor by itself, by its root mean square",
        chain=lambda: optax.chain(optax.clip_by_block_rms(CLIP_NORM), decayed(sgd(**MOM))),
        same=False,
    ),
)

TABLES: Mapping[str, tuple[Row, ...]] = {
    "equivalence": ARGUMENT_ROWS,
    "wrong": WRONG_ROWS,
    "schedules": SCHEDULE_ROWS,
    "clipping": CLIP_ROWS,
}
