"""Every line of torch and optax that is printed is executed, on the recorded gradients: it gives the recorded run."""

import math

import numpy as np
import pytest
import torch

from parity.identify import identify
from parity.measurements.optimizers import Optimizer, Truth
from parity.render.identify import identification_lines
from tests.identify.test_schedules import SCHEDULERS, rates_of

STEPS = 24

RTOL = 1e-12
"""Of the largest parameter. The constants are known to some eps, and a buffer sums what an error does to 24 updates up
to 1 / (1 - 0.9) times: 24 * 10 * some 2.2e-16 is below 1e-12. A rate in float32, or torch's 1e-6 left out of a norm of
10, would leave 1e-8."""


def three_tensors():
    """Initial parameters and gradients of a linear model of two inputs, on a batch that each step draws."""
    rng = np.random.default_rng(0)
    x, z, y = rng.normal(size=(100, 15)), rng.normal(size=(100, 6)), rng.normal(size=(100, 4))
    start = {"weight": rng.normal(size=(15, 4)), "other.weight": rng.normal(size=(6, 4)), "bias": rng.normal(size=4)}

    def gradients(p):
        rows = rng.integers(0, 100, 8)
        error = x[rows] @ p["weight"] + z[rows] @ p["other.weight"] + p["bias"] - y[rows]
        return {"weight": x[rows].T @ error / 8, "other.weight": z[rows].T @ error / 8, "bias": error.mean(axis=0)}

    return start, gradients


def record(truth, lr=0.02, factor=lambda _: 1.0, steps=STEPS):
    start, gradients = three_tensors()
    optimizer = Optimizer(truth, lambda update: lr * factor(update))
    states, grads = [start], []
    for _ in range(steps):
        grads.append(gradients(states[-1]))
        states.append(optimizer.step(states[-1], grads[-1]))
    return states, grads


def in_torch(member, states, gradients):
    """The states that torch's line gives, with what is said of each step."""
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in states[0].items()}
    names = {"torch": torch, "math": math, "params": params}
    exec(member.torch, names)  # noqa: S102  our own text
    accumulates = member.torch_steps[0].startswith("if ")
    for number, step in enumerate(gradients):
        for name, value in step.items():
            own = torch.tensor(value)
            before = params[name].grad if accumulates else None
            params[name].grad = own if before is None else before + own
        names["step"] = number
        exec("\n".join(member.torch_steps), names)  # noqa: S102
        yield {name: p.detach().numpy().copy() for name, p in params.items()}


def in_optax(member, states, gradients):
    """The states that optax' line gives."""
    import jax
    import jax.numpy as jnp
    import optax

    with jax.enable_x64(True):
        transformation = eval(member.optax, {"optax": optax, "jax": jax, "jnp": jnp})  # noqa: S307
        params = {name: jnp.asarray(value) for name, value in states[0].items()}
        state = transformation.init(params)
        for step in gradients:
            grads = {name: jnp.asarray(value) for name, value in step.items()}
            updates, state = transformation.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            yield {name: np.asarray(value) for name, value in params.items()}


def assert_reproduced(found, states, gradients, *, least=("torch", "optax")):
    """Every member's every line; those named exist for one member at least."""
    made = set()
    assert found.known
    for member in found.members:
        for framework, run in (("torch", in_torch), ("optax", in_optax)):
            if getattr(member, framework).startswith("none: "):
                continue
            made.add(framework)
            for number, after in enumerate(run(member, states, gradients)):
                for name, value in states[number + 1].items():
                    off = np.abs(after[name] - value).max()
                    allowed = RTOL * max(np.abs(value).max(), np.abs(states[0][name]).max())
                    assert off <= allowed, (framework, member.name, number, name, off)
    assert made >= set(least)


def sgd(form="torch", **keywords):
    constants = {name: keywords.pop(name) for name in _CONSTANTS if name in keywords}
    momentum = {"momentum": 0.9} if form != "none" else {}
    return Truth(family="sgd", form=form, constants={**momentum, **constants}, **keywords)


_CONSTANTS = ("momentum", "weight_decay", "dampening", "max_norm", "clip_value")
ADAM = {"b1": 0.9, "b2": 0.98, "eps": 1e-6}
MASKED = {"decay": "coupled", "weight_decay": 0.05, "undecayed": ("bias",)}

RULES = {
    "plain": (sgd("none"), 0.02),
    "momentum": (sgd(), 0.02),
    "dampening": (sgd(dampening=0.3), 0.02),
    "nesterov": (sgd(nesterov=True), 0.02),
    "Keras": (sgd("keras"), 0.02),
    "debiased": (sgd("debiased"), 0.02),
    "coupled decay": (sgd(decay="coupled", weight_decay=0.05), 0.02),
    "decoupled decay": (sgd(decay="decoupled", weight_decay=0.05), 0.02),
    "ascent with decay": (sgd(decay="coupled", weight_decay=0.05, maximize=True), 1e-3),
    "a mask": (sgd(**MASKED), 0.02),
    "frozen": (sgd(frozen=("other.weight",)), 0.02),
    "frozen and decay": (sgd(frozen=("bias",), decay="coupled", weight_decay=0.05), 0.02),
    "frozen and a mask": (sgd(frozen=("other.weight",), **MASKED), 0.02),
    "frozen and clipping by norm": (sgd(frozen=("other.weight",), clip="norm", max_norm=6.0), 0.02),
    "clipping by norm": (sgd(clip="norm", max_norm=6.0), 0.02),
    "clipping by norm without epsilon": (sgd(clip="exact", max_norm=6.0), 0.02),
    "clipping by value": (sgd(clip="value", clip_value=0.5), 0.02),
    "accumulation": (sgd(every=3), 0.02),
    "accumulation, frozen, clipping": (sgd(every=2, frozen=("bias",), clip="norm", max_norm=5.0), 0.02),
    "accumulation, clipping without epsilon": (sgd(every=2, clip="exact", max_norm=5.0), 0.02),
    "summed gradients, clipped": (sgd(every=2, summed=True, clip="norm", max_norm=8.0), 0.01),
    "Adam": (Truth(family="adam", constants=ADAM), 0.01),
    "Adam, coupled decay": (Truth(family="adam", constants={**ADAM, "weight_decay": 0.1}, decay="coupled"), 0.01),
    "AdamW": (Truth(family="adam", constants={**ADAM, "weight_decay": 0.1}, decay="decoupled"), 0.01),
    "AdamW, masked and frozen": (
        Truth(
            family="adam",
            constants={**ADAM, "weight_decay": 0.1},
            decay="decoupled",
            undecayed=("bias",),
            frozen=("other.weight",),
        ),
        0.01,
    ),
    "RMSprop": (Truth(family="rmsprop", form="torch", constants={"alpha": 0.95, "momentum": 0.7, "eps": 1e-5}), 0.003),
    "RMSprop, centred": (Truth(family="rmsprop", centered=True, constants={"alpha": 0.95, "eps": 1e-5}), 0.003),
    "Adagrad, outside": (Truth(family="adagrad", constants={"eps": 1e-5}), 0.05),
    "Adagrad, inside": (Truth(family="adagrad", constants={"eps_root": 1e-5}), 0.05),
    "Lion": (Truth(family="lion", constants={"b1": 0.9, "b2": 0.98, "weight_decay": 0.1}, decay="decoupled"), 1e-3),
    "Lion, frozen": (Truth(family="lion", constants={"b1": 0.9, "b2": 0.98}, frozen=("bias",)), 1e-3),
}
_IN_ONE = {"Keras": "optax", "debiased": "optax", "Lion": "optax", "Lion, frozen": "optax"}
_IN_ONE |= {"Adagrad, outside": "torch", "Adagrad, inside": "optax", "decoupled decay": "optax"}


@pytest.mark.parametrize("name", RULES)
def test_rules(name):
    truth, lr = RULES[name]
    states, gradients = record(truth, lr)
    least = (_IN_ONE[name],) if name in _IN_ONE else ("torch", "optax")
    assert_reproduced(identify(states, gradients), states, gradients, least=least)


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # SequentialLR's own
@pytest.mark.parametrize("name", [*SCHEDULERS, "inverse time", "free", "cosine of a broken period", "from 0"])
def test_schedules(name):
    rates = RATES[name]() if name in RATES else rates_of(SCHEDULERS[name][0])
    states, gradients = record(sgd(momentum=0.8), 0.2, lambda update: rates[update], steps=len(rates))
    found = identify(states, gradients)
    assert_reproduced(found, states, gradients)
    member = next(member for member in found.members if member.torch_steps)
    scheduler = member.torch.partition("; scheduler = torch.optim.lr_scheduler.")[2].partition("(")[0]
    assert scheduler == WRITTEN.get(name, "LambdaLR")


T = np.arange(50)
RATES = {
    "inverse time": lambda: 0.1 / (1 + 0.07 * T),
    "free": lambda: np.random.default_rng(0).uniform(0.05, 0.1, 50),
    "cosine of a broken period": lambda: 0.01 + 0.09 * (1 + np.cos(np.pi * T / 36.5)) / 2,
    "from 0": lambda: 0.1 * np.minimum(T / 20, 1),
}
WRITTEN = {
    "constant": "",
    "step": "StepLR",
    "multi-step": "MultiStepLR",
    "exponential": "ExponentialLR",
    "linear": "LinearLR",
    "warm-up": "LinearLR",
    "cosine": "CosineAnnealingLR",
    "polynomial": "PolynomialLR",
    "one-cycle": "OneCycleLR",
    "warm-up, then cosine": "SequentialLR",
}


def test_a_float32_run_has_whole_periods_too():
    rates = rates_of(SCHEDULERS["cosine"][0])
    start, gradients = three_tensors()
    optimizer = Optimizer(sgd(momentum=0.8), lambda update: 0.2 * rates[update])
    states, grads = [{name: value.astype(np.float32) for name, value in start.items()}], []
    for _ in rates:
        grads.append({name: value.astype(np.float32) for name, value in gradients(states[-1]).items()})
        states.append(optimizer.step(states[-1], grads[-1]))
    (member, *_) = identify(states, grads).members
    assert "CosineAnnealingLR(optimizer, T_max=70, eta_min=" in member.torch


def test_a_tensor_without_a_gradient_at_some_step_has_no_line_of_optax():
    """optax would go on with its buffer, and the tensor would move."""
    start, gradients = three_tensors()
    optimizer = Optimizer(sgd(), lambda _: 0.02)
    states, grads = [start], []
    for number in range(16):
        step = gradients(states[-1])
        if number in (1, 5):
            del step["bias"]
        grads.append(step)
        states.append(optimizer.step(states[-1], step))
    (member, *_) = identify(states, grads).members
    assert member.optax.startswith("none: tensors have no gradient at some steps")


def test_no_element_without_gradients_becomes_nan_where_no_epsilon_shows():
    start, gradients = three_tensors()
    optimizer = Optimizer(Truth(family="adam", constants={"b1": 0.9, "b2": 0.98}), lambda _: 0.01)
    states, grads = [start], []
    for _ in range(16):
        step = gradients(states[-1])
        step["weight"][3] = 0.0
        grads.append(step)
        states.append(optimizer.step(states[-1], step))
    found = identify(states, grads)
    assert {member.form["epsilon"] for member in found.members} == {"none"}
    assert_reproduced(found, states, grads)


@pytest.mark.parametrize("clip", ["exact", "sum"])
def test_printed_steps_are_those_that_are_kept(clip):
    truth = sgd(every=2, clip="norm" if clip == "sum" else clip, summed=clip == "sum", max_norm=8.0)
    states, gradients = record(truth, 0.01)
    found = identify(states, gradients)
    lines = list(identification_lines(found))
    begin = lines.index("    at each step, the gradients in p.grad:") + 1
    steps = next(member.torch_steps for member in found.members if member.torch_steps)
    assert tuple(line.removeprefix("      ") for line in lines[begin : begin + len(steps)]) == steps
