"""Which format a float32 step was computed in: steps in NumPy whose products are rounded, and the emulated sides."""

from dataclasses import replace

import numpy as np
import pytest

import torch_impl
from parity.checking import check
from parity.compare import Finding, Stage
from parity.contract import CNN_ACTIVATIONS, SGD, StepTrace, initial_weights
from parity.explain import explain_precision
from parity.explain.losses import HONEST
from parity.explain.relayout import round_to
from parity.oracle import layers
from parity.problem import cnn_problem
from parity.registry import resolve
from parity.settings import Settings, Side


def plain(values):
    return values


def to(bits):
    return lambda values: round_to(np.asarray(values, np.float64), bits)


def cut(bits):
    def change(values):
        mantissa, exponent = np.frexp(np.asarray(values, np.float64))
        return np.ldexp(np.trunc(np.ldexp(mantissa, bits)), exponent - bits)

    return change


def single(values):
    return np.asarray(values, np.float64).astype(np.float32).astype(np.float64)


EVERY = ("conv1", "conv2", "fc1", "fc2", "fc3")


def step(dataset, *, inputs=plain, weights=plain, result=plain, where=EVERY, gradients=plain, noise=0.0):
    """A float32 step, whose sums are added in float64: so they are more exact than float32's, and honest."""
    given = {name: np.asarray(value, np.float64) for name, value in initial_weights(0).items()}
    images, labels = single(layers.normalise(dataset.train_images[:8])), dataset.train_labels[:8]
    draws = np.random.default_rng(0)

    def layer(name, x):
        chosen = name in where
        function = layers.conv2d if name.startswith("conv") else layers.linear
        w, b = given[f"{name}.weight"], given[f"{name}.bias"]
        y = function(inputs(x), weights(w), b) if chosen else function(x, w, b)
        y = y * (1 + noise * draws.standard_normal(y.shape)) if chosen else y
        return single(result(y) if chosen else y)

    found = {"conv1": layer("conv1", images)}
    found["pool1"] = layers.max_pool(layers.relu(found["conv1"]))
    found["conv2"] = layer("conv2", found["pool1"])
    found["pool2"] = layers.max_pool(layers.relu(found["conv2"]))
    found["fc1"] = layer("fc1", found["pool2"].reshape(8, -1))
    found["relu3"] = layers.relu(found["fc1"])
    found["fc2"] = layer("fc2", found["relu3"])
    found["relu4"] = layers.relu(found["fc2"])
    logits = layer("fc3", found["relu4"])
    dz = single(HONEST.gradient(logits, labels))
    by_weight = single(gradients(dz).T @ gradients(found["relu4"]))
    return StepTrace(
        batch={"images": images.astype(np.float32), "labels": labels},
        weights={name: value.astype(np.float32) for name, value in given.items()},
        activations={name: found[name].astype(np.float32) for name in CNN_ACTIVATIONS},
        logits={"logits": logits.astype(np.float32)},
        loss={"loss": np.float32(0)},
        gradients={"fc3.weight": by_weight.astype(np.float32)},
        momentum={},
        parameters={},
    )


def named(trace, difference=3e-4):
    finding = Finding(
        kind="precision",
        step=None,
        phase="",
        place=Stage(stage="activations", tensor="conv1"),
        difference=difference,
        allowed=1e-6,
        local=None,
        off=("b",),
        detail="",
    )
    (cause,) = explain_precision(finding, trace).causes
    return cause


@pytest.mark.parametrize(
    ("changes", "key", "sentence"),
    [
        ({"inputs": to(11), "weights": to(11)}, "tf32", "computes products in TF32 or float16"),
        ({"inputs": to(8), "weights": to(8)}, "bfloat16-compute", "computes products in bfloat16"),
        (
            {"inputs": to(8), "weights": to(8), "result": to(8)},
            "bfloat16-compute",
            "computes products in bfloat16, and keeps their results in it",
        ),
        (
            {"inputs": to(11), "weights": to(11), "result": to(11)},
            "float16-compute",
            "computes products in float16, and keeps their results in it",
        ),
        ({"weights": to(8)}, "weights-in-bfloat16", "reads weights in bfloat16"),
        ({"inputs": to(11)}, "inputs-in-TF32-or-float16", "reads the inputs of layers in TF32 or float16"),
        ({"result": to(8)}, "outputs-in-bfloat16", "keeps the outputs of layers in bfloat16"),
        (
            {"inputs": cut(11), "weights": cut(11)},
            "tf32",
            "computes products in TF32 or float16, cut off instead of rounded",
        ),
        (
            {"inputs": to(11), "weights": to(11), "where": ("conv1", "conv2")},
            "tf32",
            "computes products in TF32 or float16 in convolutions",
        ),
        (
            {"inputs": to(11), "weights": to(11), "where": ("fc1", "fc2", "fc3")},
            "tf32",
            "computes products in TF32 or float16 in linear layers",
        ),
        (
            {"inputs": to(8), "weights": to(8), "where": ("fc2",)},
            "bfloat16-compute",
            "computes products in bfloat16 in fc2",
        ),
        ({"gradients": to(8)}, "bfloat16-compute", "computes products in bfloat16 in the backward pass"),
    ],
)
def test_a_format_that_predicts_every_layer_is_named(changes, key, sentence, small):
    cause = named(step(small, **changes))
    assert (cause.key, cause.sentence, cause.alike) == (key, sentence, ())
    assert cause.residual < 1e-5 < cause.before


@pytest.mark.parametrize("bits", [9, 10, 13, 16])
def test_bits_of_no_format_stay_a_number(bits, small):
    cause = named(step(small, inputs=to(bits), weights=to(bits), where=EVERY), difference=2.0**-bits)
    assert cause.key == "lower-precision"
    # The errors of 10 bits, rounded, are as large as those of 11 that are cut off; no more than that is said.
    alike = ", as products in TF32 or float16 that are cut off instead of rounded have" if bits == 10 else ""
    assert cause.sentence == f"computes with about {bits} significant bits{alike}, where float32 has 24"


@pytest.mark.parametrize("bits", [8, 11])
def test_errors_as_large_as_a_format_makes_are_said_to_be_so(bits, small):
    """Products that are computed in another way: the size of the errors is right, and no rounding predicts them."""
    draws = np.random.default_rng(1)

    def another(values):
        values = np.asarray(values, np.float64)
        _, exponent = np.frexp(values)
        return values + np.ldexp(draws.uniform(-0.5, 0.5, values.shape), exponent - bits) * (values != 0)

    cause = named(step(small, inputs=another, weights=another), difference=2.0**-bits)
    name = {8: "bfloat16", 11: "TF32 or float16"}[bits]
    assert cause.key == "lower-precision"
    assert cause.sentence == (
        f"computes with about {bits} significant bits, as products in {name} have, where float32 has 24"
    )


def test_float32_itself_and_unknown_formulas_are_given_no_format(small):
    for trace in (step(small), None):
        cause = named(trace)
        assert (cause.key, cause.sentence) == (
            "lower-precision",
            "computes with about 11 significant bits, where float32 has 24",
        )


def test_the_emulated_sides(small):
    honest = Side(name="a", implementation=torch_impl.eager)
    for name, key, text in (
        ("float16", "float16-compute", "computes products in float16, and keeps their results in it"),
        ("tf32", "tf32", "computes products in TF32 or float16"),
    ):
        emulated = Side(name="b", implementation=resolve(f"torch_impl.emulated:{name}"))
        problem = cnn_problem(small, initial_weights(0))
        found = check((honest, emulated), problem, Settings(sgd=SGD(lr=0.01), device="cpu"))
        (cause,) = found.explanation.causes
        assert (cause.key, cause.sentence) == (key, text)
        assert found.line.endswith(f"; cause: b {text}")


def test_a_step_without_activations_is_not_asked_for_them(small):
    assert named(replace(step(small), activations={}, logits={})).key == "lower-precision"
