"""Adapted JAX programs keep the contract's promises, whatever the function and the optimizer."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jax_impl
from jax_impl.slots import read_slots
from parity.contract import SGD, Implementation, InputError, SelfContained
from tests.jax_impl.programs import PROGRAMS, ROWS, block, draws, mlp, mlp_forward, residual, squared_error

PLAN = np.arange(ROWS, dtype=np.int32).reshape(6, 4)

OPTIMIZERS = {
    "sgd": (optax.sgd(0.1), 0),
    "momentum": (optax.sgd(0.1, momentum=0.9), 1),
    "adam": (optax.adam(0.01), 2),
    "adamw, clipped, scheduled": (
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.1, 0.0, 10))),
        2,
    ),
    "amsgrad": (optax.amsgrad(0.01), 3),
    "rmsprop": (optax.rmsprop(0.01, centered=True, momentum=0.5), 3),
    "adagrad": (optax.adagrad(0.1), 1),
    "adadelta": (optax.adadelta(0.1), 2),
    "nested": (optax.apply_if_finite(optax.adam(0.01), 3), 2),
}


def begin(side, dtype="float64"):
    weights, data = side.example()
    state = side.start(weights, SGD(), dtype=dtype, device="cpu")
    return state, side.place(state, *data)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def assert_close(left, right):
    """For the same formula compiled twice, which may group its operations otherwise: 1e-13 is some hundred ulps."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=1e-13, atol=1e-13, err_msg=name)


def everything(side, state):
    """All that can be read from a state, as copies."""
    slots = {f"{name} (slot)": value for name, value in side.momentum(state).items()}
    return {name: value.copy() for name, value in {**side.weights(state), **slots}.items()}


@pytest.mark.parametrize("make", PROGRAMS)
def test_it_is_an_implementation_that_brings_its_own_data(make):
    side = make()
    assert isinstance(side, Implementation)
    assert isinstance(side, SelfContained)
    state, _ = begin(side)
    assert "compiled scan, CPU" in side.describe(state)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", PROGRAMS)
def test_everything_is_in_the_runs_dtype(make, dtype):
    side = make()
    state, data = begin(side, dtype)
    after, losses = side.run(state, data, PLAN)
    _, trace = side.observe(after, data, PLAN[0])
    assert losses.dtype == dtype
    assert side.logits(after, data).dtype == dtype
    for tensors in (trace.weights, trace.activations, trace.gradients, trace.momentum, trace.parameters):
        assert tensors
        assert {value.dtype for value in tensors.values()} == {np.dtype(dtype)}
    assert jax.config.jax_numpy_dtype_promotion == "standard"
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("make", [mlp, residual])
def test_a_run_is_plain_jax_training(make):
    """The same steps written out."""
    side = make()
    program = side.program
    with jax.enable_x64(True):
        cast = lambda tree: jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float64), tree)  # noqa: E731
        params, statistics = cast(program.params), cast(program.statistics)
        inputs, targets = (jnp.array(a, jnp.float64 if a.dtype.kind == "f" else jnp.int32) for a in side.data)
        opt_state, losses = program.tx.init(params), []

        @jax.jit
        @partial(jax.value_and_grad, has_aux=True)
        def loss_fn(params, statistics, rows):
            if statistics is None:
                return program.loss(program.apply(params, inputs[rows]), targets[rows]), None
            output, new = program.apply(params, jax.tree.map(lambda leaf: leaf, statistics), inputs[rows])
            return program.loss(output, targets[rows]), new

        for rows in PLAN:
            (loss, new), gradients = loss_fn(params, statistics, rows)
            updates, opt_state = program.tx.update(gradients, opt_state, params)
            params, statistics = optax.apply_updates(params, updates), new
            losses.append(float(loss))
        state, data = begin(side)
        after, ours = side.run(state, data, PLAN)
        np.testing.assert_allclose(ours, losses, rtol=1e-12)
        expected = [np.array(leaf) for leaf in jax.tree.leaves((params, statistics))]
        actual = jax.tree.leaves((after.carry.params, after.carry.statistics))
        for left, right in zip(actual, expected, strict=True):
            # Adam divides by the root of nu, which magnifies rounding where a gradient is small.
            np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("make", PROGRAMS)
def test_observing_a_step_is_running_it(make):
    side = make()
    state, data = begin(side)
    state, _ = side.run(state, data, PLAN[:2])
    ran, losses = side.run(state, data, PLAN[2:3])
    observed, trace = side.observe(state, data, PLAN[2])
    assert_close(everything(side, ran), everything(side, observed))
    np.testing.assert_allclose(trace.loss["loss"], losses[0], rtol=1e-14)
    assert_same(trace.weights, side.weights(state))
    assert_same(trace.parameters, side.weights(observed))
    assert_same(trace.momentum, side.momentum(observed))
    for number, array in enumerate(side.data):
        np.testing.assert_array_equal(trace.batch[str(number)], array[PLAN[2]])
    counts = [leaf for leaf in jax.tree.leaves(ran.carry.optimizer) if jnp.issubdtype(leaf.dtype, jnp.integer)]
    assert counts == [
        leaf for leaf in jax.tree.leaves(observed.carry.optimizer) if jnp.issubdtype(leaf.dtype, jnp.integer)
    ]


@pytest.mark.parametrize("make", PROGRAMS)
def test_gradients_are_those_of_the_loss(make):
    """Central differences in float64: the error is about h^2, 1e-10, and the rounding 1e-16 / h, 1e-11."""
    side = make()
    state, data = begin(side)
    _, trace = side.observe(state, data, PLAN[0])
    h = 1e-5
    for name, gradient in trace.gradients.items():
        index = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        shifted = []
        for sign in (1, -1):
            weights = side.weights(state)
            weights[name][index] += sign * h
            shifted.append(side.run(side.restore(state, weights, {}), data, PLAN[:1])[1][0])
        np.testing.assert_allclose((shifted[0] - shifted[1]) / (2 * h), gradient[index], atol=1e-7, err_msg=name)


@pytest.mark.parametrize("make", PROGRAMS)
def test_states_are_immutable(make):
    side = make()
    state, data = begin(side)
    once, _ = side.run(state, data, PLAN)
    kept = everything(side, once)
    twice, losses = side.run(once, data, PLAN)
    side.observe(once, data, PLAN[0])
    logits = side.logits(once, data)
    assert_same(everything(side, once), kept)
    again, repeated = side.run(once, data, PLAN)
    np.testing.assert_array_equal(losses, repeated)
    np.testing.assert_array_equal(logits, side.logits(once, data))
    assert_same(everything(side, twice), everything(side, again))
    for value in side.weights(once).values():
        value[...] = 7
    assert_same(everything(side, once), kept)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_restores_in_the_middle_of_a_run(name):
    tx, slots = OPTIMIZERS[name]
    side = residual(tx) if name == "adam" else mlp(tx)
    state, data = begin(side)
    middle, _ = side.run(state, data, PLAN[:3])
    momentum = side.momentum(middle)
    assert len(momentum) == slots * len(jax.tree.leaves(side.program.params))
    end, losses = side.run(middle, data, PLAN[3:])
    elsewhere, _ = side.run(middle, data, PLAN)
    back = side.restore(middle, side.weights(middle), momentum)
    assert_same(everything(side, back), everything(side, middle))
    ended, repeated = side.run(back, data, PLAN[3:])
    np.testing.assert_array_equal(repeated, losses)
    assert_same(everything(side, ended), everything(side, end))
    # From other tensors too, and they do count.
    moved = side.restore(middle, side.weights(elsewhere), side.momentum(elsewhere))
    assert_same(everything(side, moved), everything(side, elsewhere))
    assert not np.array_equal(side.run(moved, data, PLAN[3:])[1], losses)


def test_restoring_keeps_step_counts_and_none_is_as_before_the_first_step():
    side = mlp(optax.adam(0.01))
    state, data = begin(side)
    middle, _ = side.run(state, data, PLAN[:3])
    back = side.restore(middle, side.weights(state), {})
    assert optax.tree_utils.tree_get(back.carry.optimizer, "count") == 3
    assert_same(side.momentum(back), side.momentum(state))
    assert any(value.any() for value in side.momentum(middle).values())


def test_slots_are_numbered_in_the_documented_order():
    side = mlp(OPTIMIZERS["rmsprop"][0])
    state, data = begin(side)
    after, _ = side.run(state, data, PLAN)
    momentum = side.momentum(after)
    for name, slot in (("out.bias", "mu"), ("out.bias:2", "nu"), ("out.bias:3", "trace")):
        tree = optax.tree_utils.tree_get(after.carry.optimizer, slot)
        np.testing.assert_array_equal(momentum[name], tree["out"]["bias"])


def test_slots_are_found_where_a_mask_leaves_parameters_out_and_where_paths_end_alike():
    params = {"b": jnp.ones(3), "a": {"b": jnp.ones(3), "c": jnp.ones(())}}
    tx = optax.masked(optax.adam(0.1), {"b": True, "a": {"b": True, "c": False}})
    assert list(read_slots(tx.init(params), params)) == ["a.b", "b", "a.b:2", "b:2"]


def test_one_array_is_a_pytree_too():
    data = draws().normal(size=(ROWS, 5)), draws().normal(size=ROWS)
    side = jax_impl.adapt(lambda w, x: x @ w, np.ones(5), squared_error, optax.adam(0.1), data=data)
    state, placed = begin(side)
    after, _ = side.run(state, placed, PLAN)
    assert list(side.weights(after)) == ["params"]
    assert list(side.momentum(after)) == ["params", "params:2"]


def test_weights_and_gradients_come_in_the_order_of_the_forward_pass():
    side = block()
    state, data = begin(side)
    _, trace = side.observe(state, data, PLAN[0])
    layers = list(dict.fromkeys(name.partition(".")[0] for name in trace.gradients))
    assert layers == ["embed", "norm1", "qkv", "proj", "norm2", "up", "down", "head"]
    assert list(trace.weights) == list(trace.gradients)
    names = ["conv1.kernel", "bn1.scale", "bn1.bias", "conv2.kernel", "bn2.scale", "bn2.bias", "fc.kernel", "fc.bias"]
    weights = side_weights(residual())
    assert sorted(weights[:8]) == sorted(names)
    assert [name.partition(".")[0] for name in weights[:8]] == [name.partition(".")[0] for name in names]
    assert sorted(weights[8:]) == ["bn1.mean", "bn1.var", "bn2.mean", "bn2.var"]


def side_weights(side):
    return list(side.weights(begin(side)[0]))


def test_the_order_is_found_inside_jit_too():
    side = mlp()
    compiled = jax_impl.adapt(jax.jit(mlp_forward), side.program.params, squared_error, optax.sgd(0.1), data=side.data)
    names = ["hidden.kernel", "hidden.bias", "out.kernel", "out.bias"]
    assert side_weights(side) == side_weights(compiled) == names


def test_statistics_of_integers_and_keys_are_kept_but_not_reported():
    """Dropout that takes its key from the statistics: the same state gives the same run, the next one other masks."""

    def apply(params, statistics, x):
        key, use = jax.random.split(statistics["key"])
        keep = jax.random.bernoulli(use, 0.5, x.shape)
        return (x * keep) @ params["w"], {"key": key, "steps": statistics["steps"] + 1}

    data = draws().normal(size=(ROWS, 50)), draws().normal(size=ROWS)
    statistics = {"key": jax.random.key(0), "steps": np.int32(0)}
    params = {"w": np.ones(50)}
    side = jax_impl.adapt(apply, params, squared_error, optax.sgd(0.0), data=data, statistics=statistics)
    state, placed = begin(side)
    once, losses = side.run(state, placed, PLAN[:1])
    np.testing.assert_array_equal(side.run(state, placed, PLAN[:1])[1], losses)
    assert side.run(once, placed, PLAN[:1])[1] != losses
    assert list(side.weights(once)) == ["w"]
    assert side.restore(once, side.weights(once), {}).carry.statistics["steps"] == 1


def test_the_users_arrays_may_be_overwritten_or_donated():
    params = {"w": np.ones(5), "v": jnp.ones(5)}
    data = draws().normal(size=(ROWS, 5)), draws().normal(size=ROWS)
    side = jax_impl.adapt(lambda p, x: x @ (p["w"] + p["v"]), params, squared_error, optax.sgd(0.1), data=data)
    params["w"][:] = 7
    params["v"].delete()
    for value in side.example()[0].values():
        np.testing.assert_array_equal(value, 1)
    begin(side)


def test_starting_and_placing_copy():
    side = mlp()
    weights, data = side.example()
    state = side.start(weights, SGD(), dtype="float64", device="cpu")
    copied = [array.copy() for array in data]
    placed = side.place(state, *copied)
    before = side.logits(state, placed)
    for array in (*weights.values(), *copied):
        array[...] = 7
    np.testing.assert_array_equal(side.logits(state, placed), before)


def test_evaluation_is_apply_unless_another_function_is_given():
    side = residual()
    state, data = begin(side)
    after, _ = side.run(state, data, PLAN)
    inputs = np.asarray(data[0])
    with jax.enable_x64(True):
        # Inside jit, because nnx writes to the variables that it is given.
        expected = jax.jit(side.program.evaluate)(after.carry.params, after.carry.statistics, inputs)
        training, _ = jax.jit(side.program.apply)(after.carry.params, after.carry.statistics, inputs)
    np.testing.assert_allclose(side.logits(after, data), expected, rtol=1e-12)
    without = jax_impl.adapt(
        side.program.apply,
        side.program.params,
        side.program.loss,
        side.program.tx,
        data=side.data,
        statistics=side.program.statistics,
    )
    np.testing.assert_allclose(without.logits(after, data), training, rtol=1e-12)
    assert not np.allclose(expected, training)


def test_several_inputs_and_no_target():
    def apply(params, left, right, mask):
        return (left - right) @ params["w"] * mask

    rng = draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 5)), rng.integers(0, 2, ROWS) > 0
    params, tx = {"w": np.ones(5)}, optax.sgd(0.1)
    side = jax_impl.adapt(apply, params, lambda y: (y**2).mean(), tx, data=data, inputs=3)
    state, placed = begin(side)
    assert np.isfinite(side.run(state, placed, PLAN)[1]).all()
    with pytest.raises(InputError, match="inputs 3: there are 2 arrays"):
        side.place(state, *data[:2])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda w: w.pop("out.bias"), "tensor out.bias is missing"),
        (lambda w: w.update(other=np.zeros(3)), "tensor other is not one of the program's"),
        (lambda w: w.update({"out.bias": np.zeros(3)}), r"tensor out.bias has shape \(3,\), not \(2,\)"),
        (lambda w: w.update({"out.bias": np.zeros(2, int)}), "tensor out.bias is int64, not of floats"),
        (lambda w: w.update({"out.bias": np.full(2, np.inf)}), "tensor out.bias holds NaN"),
    ],
)
def test_refuses_weights_of_another_program(change, problem):
    side = mlp()
    weights = dict(side.example()[0])
    change(weights)
    with pytest.raises(InputError, match=f"^weights given: {problem}"):
        side.start(weights, SGD(), dtype="float32", device="cpu")


def test_refuses_another_sgd_other_momentum_and_devices_that_are_not_here():
    side = mlp()
    weights, _ = side.example()
    with pytest.raises(InputError, match="this program brings its own optimizer"):
        side.start(weights, SGD(lr=0.5), dtype="float32", device="cpu")
    with pytest.raises(InputError, match="device rocm"):
        side.start(weights, SGD(), dtype="float32", device="rocm")
    state = side.start(weights, SGD(), dtype="float32", device="cpu")
    momentum = side.momentum(state)
    del momentum["out.bias"]
    with pytest.raises(InputError, match="^momentum given: tensor out.bias is missing"):
        side.restore(state, weights, momentum)


def test_refuses_parameters_that_are_no_floats_or_have_one_name_twice():
    data = np.ones((4, 5)), np.ones(4)
    for params, problem in (
        ({"w": np.ones(5, int)}, "params w: it is int64"),
        ({"w": 1.0}, "params w: it is float, not an array"),
        ({"a.b": np.ones(5), "a": {"b": np.ones(5)}}, "params a.b: two tensors have this name"),
    ):
        with pytest.raises(InputError, match=problem):
            jax_impl.adapt(lambda _, x: x, params, squared_error, optax.sgd(0.1), data=data)


def test_refuses_integers_that_jax_would_wrap():
    side = block()
    state, _ = begin(side)
    tokens, labels = side.data
    with pytest.raises(InputError, match="data array 0: it holds integers beyond int32"):
        side.place(state, tokens + 2**32, labels)


X, Y = np.ones((4, 5)), np.ones((4, 2))


def adapt_leaking(body, loss=squared_error, tx=None):
    def apply(params, x):
        return body(x @ params["w"])

    return jax_impl.adapt(apply, {"w": np.full((5, 2), 0.3)}, loss, tx or optax.sgd(0.1), data=(X, Y))


@jax.custom_vjp
def rounded_gradient(y):
    return y * 1


rounded_gradient.defvjp(lambda y: (y * 1, None), lambda _, g: (g.astype(jnp.float32).astype(g.dtype),))


@pytest.mark.parametrize(
    ("body", "loss", "dtype", "found"),
    [
        (lambda y: jnp.float32(y).astype(jnp.float64), squared_error, "float64", "convert_element_type .*float32"),
        (lambda y: y.astype(jnp.bfloat16).astype(y.dtype), squared_error, "float32", "convert_.* bfloat16"),
        (lambda y: y * jnp.sin(jnp.full(2, 0.1, jnp.float32)), squared_error, "float64", "sin .* float32"),
        (lambda y: y, lambda y, t: squared_error(jnp.float32(y), jnp.float32(t)), "float64", "convert_.* float32"),
        (rounded_gradient, squared_error, "float64", "convert_element_type .* float32"),
        (jax.jit(lambda y: jnp.float32(y) + y), squared_error, "float64", "convert_element_type .* float32"),
        (
            lambda y: jax.lax.scan(lambda c, _: (jnp.float32(c).astype(c.dtype), None), y, length=2)[0],
            squared_error,
            "float64",
            "convert_element_type .* float32",
        ),
        (lambda y: jnp.ones_like(y, dtype=jnp.float32), squared_error, "float64", "the output: .* float32"),
    ],
)
def test_refuses_another_precision_than_the_runs(body, loss, dtype, found):
    side = adapt_leaking(body, loss)
    with pytest.raises(InputError, match=f"^program {found}") as caught:
        begin(side, dtype)
    if "the output" not in found:
        assert "test_adapt.py:" in str(caught.value)  # the user's line


@pytest.mark.parametrize(
    "body",
    [
        lambda y: y * (y > 0).astype(jnp.float32),
        lambda y: y * (y[:, 0] > 0).astype(jnp.float32)[:, None],
        lambda y: y * 0.5 + jnp.float32(2),
        lambda y: y * jnp.arange(2).astype(y.dtype),
    ],
)
def test_masks_and_constants_are_no_other_precision(body):
    side = adapt_leaking(body)
    state, data = begin(side)
    assert side.observe(state, data, np.arange(4, dtype=np.int32))[1].logits["logits"].dtype == np.float64


def test_refuses_an_optimizer_that_keeps_another_precision():
    tx = optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.float32)
    with pytest.raises(InputError, match="the optimizer's tensor w: it computes in float32 in a float64 run"):
        begin(adapt_leaking(lambda y: y, tx=tx))


@pytest.mark.parametrize(
    ("body", "loss", "problem"),
    [
        (lambda y: (y, y), lambda y, t: squared_error(y[0], t), "program output: it is not an array"),
        (lambda y: y.mean(), squared_error, r"program output: for 2 rows its shape is \(\)"),
    ],
)
def test_refuses_results_that_cannot_be_compared(body, loss, problem):
    with pytest.raises(InputError, match=problem):
        begin(adapt_leaking(body, loss))


def test_refuses_statistics_that_change_their_structure():
    def apply(params, statistics, x):
        return x @ params["w"], {"mean": x.mean(0), "count": 1}

    params, statistics = {"w": np.ones(5)}, {"mean": np.zeros(5)}
    side = jax_impl.adapt(apply, params, squared_error, optax.sgd(0.1), data=(X, np.ones(4)), statistics=statistics)
    with pytest.raises(InputError, match="program statistics: a step changes its structure"):
        begin(side)


def test_a_program_is_adapted_in_a_few_lines():
    assert len(inspect.getsource(mlp).splitlines()) + len(inspect.getsource(mlp_forward).splitlines()) < 15


def test_a_precision_that_a_library_changes_is_laid_to_the_users_line_too():
    """nnx.Embed computes in the type that it was made with."""
    graph, params = nnx.split(nnx.Embed(3, 2, rngs=nnx.Rngs(0)), nnx.Param)

    def apply(params, x):
        return nnx.merge(graph, params)(x)

    data = np.array([0, 1, 2, 1]), Y
    where = r"flax\S+ \(.*\), from \S+test_adapt.py:\d+:\d+ \(.*apply\): it computes in float32"
    with pytest.raises(InputError, match=where):
        begin(jax_impl.adapt(apply, params, squared_error, optax.sgd(0.1), data=data))
