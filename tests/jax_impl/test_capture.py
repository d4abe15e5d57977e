"""Captured are the values that the forward pass computes, with the right parents, through every wrapper."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl.capture import record
from parity.contract import SGD
from tests.jax_impl.programs import PROGRAMS, block, mlp, residual

BATCH = np.arange(4, dtype=np.int32)
X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32)


def observe(side):
    weights, data = side.example()
    state = side.start(weights, SGD(), dtype="float64", device="cpu")
    return side.observe(state, side.place(state, *data), BATCH)[1]


def parents_of(function, *others, jitted=True):
    """The parents of what is recorded of function(x, *others)."""

    def recorded(x, *others):
        return record(lambda inputs, *rest: function(*inputs, *rest), (x,), *others)

    result = (jax.jit(recorded) if jitted else recorded)(jnp.array(X), *others)
    return dict(zip(result.names, result.parents, strict=True)), dict(zip(result.names, result.values, strict=True))


def test_the_mlp_by_hand():
    trace = observe(mlp())
    w, x, target = trace.weights, trace.batch["0"], trace.batch["1"]
    product = x @ w["hidden.kernel"]
    hidden = product + w["hidden.bias"]
    out = np.tanh(hidden) @ w["out.kernel"]
    error = out + w["out.bias"] - target
    expected = {
        "dot_general": product,
        "add": hidden,
        "tanh": np.tanh(hidden),
        "dot_general:2": out,
        "add:2": out + w["out.bias"],
        "loss/sub": error,
        "loss/integer_pow": error**2,
    }
    assert list(trace.activations) == list(expected)
    for name, value in expected.items():
        # Sums of at most 7 products of numbers about 1: a few units of 2^-53 from any order.
        np.testing.assert_allclose(trace.activations[name], value, rtol=0, atol=2e-14, err_msg=name)
    names = list(expected)
    assert trace.parents == {name: (names[i - 1],) if i else () for i, name in enumerate(names)}


@pytest.mark.parametrize("make", PROGRAMS)
def test_the_activations_lead_to_logits_and_come_after_their_parents(make):
    trace = observe(make())
    names = list(trace.activations)
    assert list(trace.parents) == names
    for name, found in trace.parents.items():
        assert all(names.index(parent) < names.index(name) for parent in found)
    logits = trace.logits["logits"]
    assert any(v.shape == logits.shape and np.allclose(v, logits, atol=1e-13) for v in trace.activations.values())
    assert all(value.size > 1 for value in trace.activations.values())


def test_the_parents_in_a_residual_block():
    trace = observe(residual())
    a, parents = trace.activations, trace.parents
    convolutions = [name for name in a if "conv_general_dilated" in name]
    relu = next(name for name in a if name.endswith("relu/max"))
    assert parents[convolutions[0]] == ()
    assert parents[convolutions[1]] == (relu,)
    (sums,) = (name for name, found in parents.items() if len(found) == 2 and found[0] == relu and "add" in name)
    normalised = parents[sums][1]
    np.testing.assert_array_equal(a[sums], a[relu] + a[normalised])
    # By hand: the second batch norm of the second convolution.
    x = a[convolutions[1]]
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    by_hand = (x - mean) / np.sqrt(var + 1e-5) * trace.weights["bn2.scale"] + trace.weights["bn2.bias"]
    np.testing.assert_allclose(a[normalised], by_hand, rtol=0, atol=1e-12)


def test_running_statistics_are_updated_once_and_are_no_activations():
    trace = observe(residual())
    convolution = next(value for name, value in trace.activations.items() if "conv_general_dilated" in name)
    mean = 0.1 * convolution.mean((0, 1, 2))
    np.testing.assert_allclose(trace.parameters["bn1.mean"], mean, rtol=1e-12, atol=1e-15)
    assert not any(value.shape == mean.shape and np.allclose(value, mean) for value in trace.activations.values())


def test_the_transformers_attention_and_gelu():
    trace = observe(block())
    a = trace.activations
    embedded = trace.weights["embed"][trace.batch["0"]]
    first = next(name for name in a if "gather" in name)
    np.testing.assert_array_equal(a[first], embedded)
    assert any(name.startswith("attention/") and "softmax" not in name and "dot_general" in name for name in a)
    # gelu is jit of erf or erfc, inside a named scope: its last product is what the next layer reads.
    (up, down) = (name for name in a if name.startswith("mlp/") and name.split("/")[-1].startswith("dot_general"))
    (biased,) = (name for name, found in trace.parents.items() if found == (up,))
    (activated,) = trace.parents[down]
    x = a[biased]
    erf = np.vectorize(math.erf)
    np.testing.assert_allclose(a[activated], x * (1 + erf(x / np.sqrt(2))) / 2, rtol=0, atol=1e-14)


@pytest.mark.parametrize("jitted", [False, True])
def test_wrapped_functions_are_entered(jitted):
    @jax.jit
    def inner(x):
        return jnp.sin(x) * 2

    @jax.jit
    def outer(x):
        return inner(x) + 1

    @jax.custom_vjp
    def custom(x):
        return jnp.cos(x)

    custom.defvjp(lambda x: (jnp.cos(x), x), lambda x, g: (g * x,))

    def function(x):
        x = outer(x)
        x = jax.nn.relu(x)
        x = custom(x)
        x = jax.checkpoint(jnp.exp)(x)
        return jax.nn.silu(x)

    parents, values = parents_of(function, jitted=jitted)
    assert parents == {
        "outer/inner/sin": (),
        "outer/inner/mul": ("outer/inner/sin",),
        "outer/add": ("outer/inner/mul",),
        "relu/max": ("outer/add",),
        "cos": ("relu/max",),
        "exp": ("cos",),
        "silu/logistic": ("exp",),
        "silu/mul": ("exp", "silu/logistic"),
    }
    np.testing.assert_allclose(values["silu/mul"], function(jnp.array(X)), rtol=1e-6)
    np.testing.assert_allclose(values["outer/inner/sin"], np.sin(X), rtol=1e-6)


def test_loops_and_branches_are_one_operation_each():
    def function(x):
        x, ys = jax.lax.scan(lambda c, _: (c * 2, c.sum(1)), x, length=3)
        x = jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x)
        return x.sum() + ys.sum()

    parents, values = parents_of(function)
    assert parents == {"scan": (), "scan[1]": (), "cond": ("scan",)}
    np.testing.assert_allclose(values["scan"], X * 8, rtol=1e-6)
    assert values["scan[1]"].shape == (3, 4)


def test_layout_is_no_activation_but_parents_pass_through_it():
    def function(x):
        y = jnp.sin(x)
        y = jnp.flip(y.reshape(4, 2, 3).transpose(0, 2, 1), 1)[:, :2, 0]
        left, right = jnp.split(jnp.broadcast_to(y[:, None], (4, 3, 2)), 2, axis=2)
        return jnp.cos(left) + right

    assert parents_of(function)[0] == {"sin": (), "cos": ("sin",), "add": ("cos", "sin")}


def test_what_does_not_depend_on_the_inputs_is_no_activation():
    def function(x, w):
        return x @ jnp.exp(w).T + jnp.sin(jnp.arange(6.0))

    parents, values = parents_of(function, jnp.array(W))
    assert parents == {"dot_general": (), "add": ("dot_general",)}
    np.testing.assert_allclose(values["dot_general"], X @ np.exp(W).T, rtol=1e-5)


def test_what_leads_nowhere_is_no_activation():
    def function(x):
        jnp.exp(x).sum()
        return jnp.cos(x)

    assert list(parents_of(function)[0]) == ["cos"]


def test_scalars_and_masks_are_no_activations_but_parents_pass_through_them():
    def function(x):
        return jnp.sin(x) * jnp.cos(x).max() * (jnp.tan(x) > 0)

    parents, _ = parents_of(function)
    assert set(parents["mul"]) == {"sin", "cos"}
    assert set(parents["mul:2"]) == {"mul", "tan"}


def test_scopes_name_the_operations():
    def function(x, w):
        with jax.named_scope("layer1"):
            x = x @ w
        with jax.named_scope("layer2"):
            return jax.nn.relu(x @ w)

    names = ["layer1/dot_general", "layer2/dot_general", "layer2/relu/max"]
    assert list(parents_of(function, jnp.array(W))[0]) == names


def test_names_stay_when_the_compiled_recording_is_used_again():
    function = jax.jit(lambda x: record(lambda inputs: jnp.sin(inputs[0]) * 2, (x,)))
    first, second = function(jnp.array(X)), function(jnp.array(X + 1))
    assert first.names == second.names == ("sin", "mul")
    np.testing.assert_allclose(second.values[0], np.sin(X + 1), rtol=1e-6)
