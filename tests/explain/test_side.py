"""Faults in an oracle's operations, and what the explainer makes of one side's steps."""

from dataclasses import replace

import numpy as np
import pytest

from parity.contract import SGD, StepLR, initial_weights
from parity.explain.relayout import round_to
from parity.oracle import layers
from parity.oracle.layers import normalise
from parity.oracle.sgd import clip_gradients, sgd_update
from tests.explain.steps import HONEST, SGDS, evidence, explained, oracle, sgd_with, stepping

DECAYED = SGD(lr=0.01, weight_decay=0.01)
WEIGHTS_DECAYED = replace(DECAYED, decay_biases=False)


@pytest.mark.parametrize("sgd", SGDS)
def test_an_honest_side_needs_no_explanation(sgd, small):
    found = explained(HONEST, small, sgd=sgd)
    assert (found.causes, found.unknown) == ((), ())


def cast(weights, kind):
    return {name: value.astype(kind).astype(np.float32) for name, value in weights.items()}


def to_bfloat16(weights):
    return {name: round_to(value.astype(np.float64), 8).astype(np.float32) for name, value in weights.items()}


def feeding(change):
    return oracle(normalise=lambda images: change(normalise(images)))


MEAN, STD = (np.array(values).reshape(1, 3, 1, 1) for values in ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)))


def cifar_constants(x):
    return ((x + 1) / 2 - MEAN) / STD


@pytest.mark.parametrize(
    ("change", "key", "text"),
    [
        (lambda x: (x + 1) / 2, "no-shift", "from 0 to 1"),
        (lambda x: (x + 1) * 127.5, "raw-pixels", "from 0 to 255"),
        (lambda x: ((x + 1) / 2 * 255 / 256 - 0.5) / 0.5, "divided-by-256", "by 256, not 255"),
        (cifar_constants, "other-normalisation", "mean (0.4914, 0.4822, 0.4465)"),
        (lambda x: x[:, ::-1], "bgr", "B,G,R"),
        (lambda x: x.swapaxes(2, 3), "image-axes-swapped", "height and width swapped"),
        (lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape), "planar-reshape", "reshaped from (H,W,C)"),
        (lambda x: x.astype(np.float32).astype(np.float64), "float32-preprocessing", "in float32"),
        (lambda x: (x[:, ::-1] + 1) / 2, "bgr", "B,G,R, and feeds pixels from 0 to 1"),
    ],
)
def test_images(change, key, text, small):
    (cause,) = explained(feeding(change), small).causes
    assert (cause.key, cause.place.stage, cause.step, cause.alike) == (key, "batch", 0, ())
    assert text in cause.sentence


def test_images_with_a_channel_of_one_value(small):
    images = small.train_images.copy()
    images[..., 0] = 7
    (cause,) = explained(feeding(lambda x: (x + 1) / 2), replace(small, train_images=images)).causes
    assert cause.key == "no-shift"


def spatial(x):
    return x.reshape(-1, 16, 5, 5).transpose(0, 2, 3, 1).reshape(-1, 400)


def spatial_back(x):
    return x.reshape(-1, 5, 5, 16).transpose(0, 3, 1, 2).reshape(-1, 400)


def flattened_linear(x, weight, bias):
    return layers.linear(spatial(x) if x.shape[1] == 400 else x, weight, bias)


def flattened_backward(upstream, x, weight):
    if x.shape[1] != 400:
        return layers.linear_backward(upstream, x, weight)
    by_x, *others = layers.linear_backward(upstream, spatial(x), weight)
    return spatial_back(by_x), *others


FLATTEN = {"linear": flattened_linear, "linear_backward": flattened_backward}


def test_the_flatten_order_and_nothing_that_follows_from_it(small):
    found = explained(oracle(**FLATTEN), small)
    (cause,) = found.causes
    assert not found.unknown
    assert (cause.key, str(cause.place)) == ("flatten-order", "activations, fc1")
    assert cause.sentence.startswith("fc1 sees the features in H,W,C order")


def test_two_faults_of_two_stages_in_order(small):
    def nesterov(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, nesterov=True), step)

    found = explained(oracle(**FLATTEN, sgd_update=nesterov), small)
    assert [cause.key for cause in found.causes] == ["flatten-order", "nesterov"]
    assert not found.unknown
    assert "; then b takes nesterov's step" in found.line


def summed(z, y):
    return layers.cross_entropy(z, y) * len(z)


def summed_backward(z, y):
    return layers.cross_entropy_backward(z, y) * len(z)


def test_a_loss_is_explained_with_its_gradients(small):
    found = explained(oracle(cross_entropy=summed, cross_entropy_backward=summed_backward), small)
    assert [cause.key for cause in found.causes] == ["loss-summed"]
    assert not found.unknown


def test_a_loss_whose_gradients_are_others_is_two_faults(small):
    found = explained(oracle(cross_entropy=summed), small)  # the gradients are those of the mean
    assert [cause.key for cause in found.causes] == ["loss-summed", "loss-only-reported"]
    assert not found.unknown


def test_average_pools_and_no_relu(small):
    def pool(x):
        return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4

    def pool_backward(upstream, _):
        return upstream.repeat(2, axis=2).repeat(2, axis=3) / 4

    found = explained(oracle(max_pool=pool, max_pool_backward=pool_backward), small)
    assert [(cause.key, cause.place.tensor) for cause in found.causes] == [
        ("average-pool", "pool1"),
        ("average-pool", "pool2"),
    ]
    found = explained(oracle(relu=lambda x: x, relu_backward=lambda upstream, _: upstream), small)
    assert [cause.key for cause in found.causes] == [
        f"relu-missing-{name}" for name in ("conv1", "conv2", "fc1", "fc2")
    ]


def clipping(change):
    return oracle(clip_gradients=lambda gradients, _: change(gradients))


@pytest.mark.parametrize(
    ("change", "key", "text"),
    [
        (lambda g: clip_gradients(g, SGD(clip_norm=0.5)), "extra-clipping", "at a norm of 0.5"),
        (lambda g: clip_gradients(g, SGD(clip_value=0.01)), "value-clipping", "at 0.01"),
        (lambda g: {**g, "conv1.bias": 0 * g["conv1.bias"]}, "bias-gradient-lost", "conv1.bias"),
        (lambda g: {name: round_to(value, 8) for name, value in g.items()}, "gradient-rounded", "bfloat16"),
        (lambda g: {name: 3 * value for name, value in g.items()}, "gradients-scaled", "by 3"),
        (lambda g: {name: -value for name, value in g.items()}, "gradients-scaled", "reverses the sign"),
    ],
)
def test_gradients(change, key, text, small):
    found = explained(clipping(change), small)
    (cause,) = found.causes
    assert not found.unknown
    assert (cause.key, cause.place.stage) == (key, "gradients")
    assert text in cause.sentence


def averaged(p, g, b, sgd, step):
    b = sgd.momentum * (0 if b is None else b) + (1 - sgd.momentum) * g
    return p - sgd.lr * b, b


def keras(p, g, b, sgd, step):
    v = sgd.momentum * (0 if b is None else b) - sgd.lr * g
    return p + v, v


def frozen(p, g, b, sgd, step):
    moved, b = sgd_update(p, g, b, sgd, step)
    return (p if p.shape == (120,) else moved), b


def decoupled(p, g, b, sgd, step):
    moved, b = sgd_update(p, g, b, replace(sgd, weight_decay=0.0), step)
    return moved - sgd.lr * sgd.weight_decay * p, b


def stored_in_bfloat16(p, g, b, sgd, step):
    moved, b = sgd_update(p, g, b, sgd, step)
    return moved, round_to(b, 8)


def float32_lr(p, g, b, sgd, step):
    return sgd_update(p, g, b, replace(sgd, lr=float(np.float32(sgd.lr))), step)


def forgetful(p, g, b, sgd, step):
    return sgd_update(p, g, None, sgd, step)


@pytest.mark.parametrize(
    ("side", "sgd", "key", "stage", "text"),
    [
        (sgd_with(momentum=0.99), SGD(), "other-momentum", "momentum", "a momentum of 0.99, not 0.9"),
        (sgd_with(momentum=0.0), SGD(), "no-momentum", "momentum", "has no momentum, where 0.9 is meant"),
        (stepping(forgetful), SGD(), "no-momentum", "momentum", "has no momentum"),
        (sgd_with(dampening=0.25), SGD(), "dampening-added", "momentum", "a dampening of 0.25, not 0"),
        (sgd_with(dampening=0.0), SGD(dampening=0.4), "dampening-ignored", "momentum", "ignores the dampening"),
        (sgd_with(nesterov=True), SGD(), "nesterov", "update", "nesterov's step"),
        (sgd_with(nesterov=False), SGD(nesterov=True), "nesterov-lost", "update", "no nesterov step"),
        (sgd_with(weight_decay=1e-6), SGD(), "weight-decay-added", "momentum", "by 1e-06, not 0"),
        (sgd_with(weight_decay=0.0), DECAYED, "weight-decay-lost", "momentum", "where 0.01 is meant"),
        (sgd_with(weight_decay=0.02), DECAYED, "other-weight-decay", "momentum", "by 0.02, not 0.01"),
        (
            sgd_with(weight_decay=lambda p: 0.01 * (p.ndim == 1)),
            SGD(),
            "decay-on-biases-only",
            "momentum",
            "biases only, by 0.01",
        ),
        (
            sgd_with(decay_biases=True),
            replace(DECAYED, decay_biases=False),
            "decay-on-biases",
            "momentum",
            "biases too",
        ),
        (sgd_with(decay_biases=False), DECAYED, "decay-not-on-biases", "momentum", "weights only, not biases"),
        (stepping(decoupled), DECAYED, "decoupled-decay", "momentum", "times 0.01, where 0.01 before it (L2) is meant"),
        (sgd_with(lr=3e-3), SGD(), "other-lr", "update", "0.003, 3 times the 0.001"),
        (sgd_with(lr=2e-3), SGD(), "other-lr", "update", "0.002, 2 times"),
        (stepping(float32_lr), SGD(), "lr-in-float32", "update", "in float32"),
        (sgd_with(maximize=True), SGD(), "ascent", "momentum", "climbs"),
        (stepping(averaged), SGD(), "averaged-momentum", "momentum", "averages gradients"),
        (stepping(keras), SGD(), "lr-inside-buffer", "momentum", "Keras' form"),
        (stepping(frozen), SGD(), "tensor-not-stepped", "update", "does not update fc1.bias"),
        (stepping(stored_in_bfloat16), SGD(), "momentum-in-bfloat16", "momentum", "in bfloat16"),
    ],
)
def test_the_optimizer(side, sgd, key, stage, text, small):  # noqa: PLR0917  one fault in a row
    found = explained(side, small, sgd=sgd)
    assert not found.unknown, found.line
    (cause,) = found.causes
    assert (cause.key, cause.place.stage) == (key, stage)
    assert text in cause.sentence


def test_faults_that_cannot_be_told_apart_are_a_class(small):
    (cause,) = explained(sgd_with(lr=2e-3), small).causes
    assert cause.keys == ("other-lr", "update-twice")
    assert str(cause).endswith("or applies each update twice")
    (cause,) = explained(stepping(forgetful), small).causes
    assert cause.keys == ("no-momentum", "momentum-state-lost")


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"momentum": 0.99, "dampening": 0.3}, {"other-momentum", "dampening-added"}),
        ({"nesterov": True, "lr": 2e-3}, {"nesterov", "other-lr"}),
        ({"momentum": 0.5, "lr": 5e-3}, {"other-momentum", "other-lr"}),
        ({"momentum": 0.5, "weight_decay": 0.01}, {"other-momentum", "weight-decay-added"}),
    ],
)
def test_two_faults_of_the_optimizer(changes, keys, small):
    found = explained(sgd_with(**changes), small)
    assert not found.unknown, found.line
    assert {cause.key for cause in found.causes} == keys


STAIRS = SGD(lr=0.01, schedule=StepLR(step_size=1, gamma=0.5, every=3))


@pytest.mark.parametrize(
    ("side", "key"),
    [
        (sgd_with(schedule=None), "lr-baked"),
        (sgd_with(schedule=StepLR(step_size=1, gamma=0.5)), "scheduler-per-batch"),
        (sgd_with(schedule=StepLR(step_size=1, gamma=0.5, every=3, taken=1)), "lr-early"),
        (stepping(lambda p, g, b, sgd, step: sgd_update(p, g, b, sgd, max(step - 1, 0))), "lr-late"),
        (
            stepping(
                lambda p, g, b, sgd, step: sgd_update(p, g, b, SGD(lr=sgd.lr * 0.5 ** (step / 3)), step),
            ),
            "no-staircase",
        ),
    ],
)
def test_schedules(side, key, small):
    (cause,) = explained(side, small, sgd=STAIRS).causes
    assert (cause.key, cause.place.stage) == (key, "update")


def test_a_scheduler_that_steps_first_is_told_with_its_class(small):
    """Within the first two learning rates it is half of what is meant."""
    early = sgd_with(schedule=StepLR(step_size=1, gamma=0.5, every=3, taken=3))
    (cause,) = explained(early, small, sgd=STAIRS).causes
    assert set(cause.keys) == {"other-lr", "first-lr-skipped"}


def strange(p, g, b, sgd, step):
    moved, b = sgd_update(p, g, b, sgd, step)
    return moved - 1e-4 * np.sin(p), b


def test_what_nothing_fits_is_unknown_with_its_place_and_residual(small):
    found = explained(stepping(strange), small)
    (unknown,) = found.unknown
    assert not found.causes
    assert str(unknown.place) == "update, conv1.weight"
    assert unknown.residual <= unknown.difference
    assert found.line.startswith("unknown: b at step 0, update, conv1.weight")


def test_a_layer_that_is_not_known_is_not_blamed_on_the_gradients(small):
    def bent(x):
        return np.maximum(x, 0) + 0.1 * np.sin(3 * x)

    def bent_backward(upstream, x):
        return upstream * ((x > 0) + 0.3 * np.cos(3 * x))

    found = explained(oracle(relu=bent, relu_backward=bent_backward), small)
    assert not found.causes
    assert {each.place.stage for each in found.unknown} == {"activations"}


class Begins:
    """The oracle from other weights than it is given."""

    def __init__(self, change):
        self.change = change

    def __getattr__(self, name):
        return getattr(HONEST, name)

    def start(self, weights, sgd, **keywords):
        return HONEST.start({**weights, **self.change(weights)}, sgd, **keywords)


@pytest.mark.parametrize(
    ("change", "key", "text"),
    [
        (
            lambda w: {"conv1.weight": w["conv1.weight"].swapaxes(2, 3)},
            "kernel-axes-swapped",
            "conv1.weight with height and width swapped",
        ),
        (
            lambda w: {name: w[name][:, :, ::-1, ::-1] for name in ("conv1.weight", "conv2.weight")},
            "kernel-flipped",
            "holds conv1.weight, conv2.weight flipped",
        ),
        (lambda w: {"conv1.weight": w["conv1.weight"][:, ::-1]}, "conv1-channels-reversed", "channels reversed"),
        (lambda w: {"fc1.weight": w["fc1.weight"].reshape(400, 120).T}, "linear-reshaped", "reshaped to (in,out)"),
        (lambda w: {"fc1.weight": spatial_back(w["fc1.weight"])}, "flatten-order", "order"),
        (lambda w: cast(w, np.float16), "weights-rounded", "float16"),
        (to_bfloat16, "weights-rounded", "bfloat16"),
        (lambda w: {"conv2.bias": 0 * w["conv2.bias"]}, "weights-zero", "conv2.bias at 0"),
        (lambda _: {"fc2.weight": initial_weights(9)["fc2.weight"]}, "own-initialiser", "unrelated"),
    ],
)
def test_weights(change, key, text, small):
    found = explained(Begins(change), small)
    assert not found.unknown, found.line
    (cause,) = found.causes
    assert (cause.key, cause.place.stage, cause.step) == (key, "weights", 0)
    assert text in cause.sentence


class Rows:
    """The oracle on other rows."""

    def __init__(self, change):
        self.change = change

    def __getattr__(self, name):
        return getattr(HONEST, name)

    def observe(self, state, data, rows):
        return HONEST.observe(state, data, self.change(rows))


def test_other_rows(small):
    (cause,) = explained(Rows(lambda rows: rows + 1), small).causes
    assert (cause.key, cause.place.tensor) == ("other-order", "images")
    assert "rows 1, 2, 3, 4 where rows 0, 1, 2, 3 are due" in cause.sentence
    reordered = explained(Rows(lambda rows: rows[::-1]), small)
    assert (reordered.causes, reordered.unknown) == ((), ())


def test_labels(small):
    data = evidence(HONEST, small)
    for change, key in ((lambda y: (y + 1) % 10, "label-plus-one"), (lambda y: np.roll(y, 1), "labels-rolled")):

        class Labelled(Rows):
            def observe(self, state, data, rows):
                labels = data.labels.copy()
                labels[rows] = change(labels[rows])  # noqa: B023  used at once
                return HONEST.observe(state, replace(data, labels=labels), rows)

        (cause,) = explained(Labelled(None), small).causes
        assert (cause.key, cause.place.tensor) == (key, "labels")
    assert data.batch_size == 4


class Unrecorded:
    """The oracle, whose momentum is not recorded."""

    def __getattr__(self, name):
        return getattr(HONEST, name)

    def observe(self, state, data, rows):
        after, seen = HONEST.observe(state, data, rows)
        return after, replace(seen, momentum={})


def test_momentum_that_is_only_not_recorded_is_no_fault(small):
    found = explained(Unrecorded(), small)
    assert not found.causes
    (unknown,) = found.unknown
    assert "its updates alone are those of SGD with momentum (lr 0.001, momentum 0.9)" in str(unknown)


def test_one_step_does_not_show_a_constant_of_the_loss(small):
    def focal(z, y):
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p = (p / p.sum(axis=1, keepdims=True))[np.arange(len(y)), y]
        return np.asarray(np.mean(-((1 - p) ** 2) * np.log(p)))

    for sizes in ((4,), (4, 4, 2)):
        found = explained(oracle(cross_entropy=focal), small, sizes=sizes)
        assert not found.causes
        assert [each.place.stage for each in found.unknown] == ["loss"]


def test_weights_relaid_and_rounded(small):
    def relaid(w):
        return {"fc1.weight": cast({"x": spatial(w["fc1.weight"])}, np.float16)["x"]}

    (cause,) = explained(Begins(relaid), small).causes
    assert cause.key == "flatten-order"
    assert cause.sentence.endswith("order, and rounded to float16 or TF32")


def test_the_coarsest_format_is_named(small):
    def bfloat16(x, weight, bias):
        return round_to(layers.linear(x, weight, bias), 8)

    rounded = {
        "linear": bfloat16,
        "clip_gradients": lambda g, _: {name: round_to(value, 8) for name, value in g.items()},
    }
    (cause,) = explained(oracle(**rounded), small).causes
    assert cause.key == "computes-in-bfloat16"


def test_a_debiased_average(small):
    def debiased(p, g, b, sgd, step):
        b = sgd.momentum * (0 if b is None else b) + (1 - sgd.momentum) * g
        return p - sgd.lr * b / (1 - sgd.momentum ** (step + 1)), b

    found = explained(stepping(debiased), small)
    assert [cause.key for cause in found.causes] == ["averaged-momentum", "debiased"]


def test_a_loss_for_each_example(small):
    def several(z, y):
        return np.array([float(layers.cross_entropy(z[n : n + 1], y[n : n + 1])) for n in range(len(y))])

    (cause,) = explained(oracle(cross_entropy=several), small).causes
    assert cause.key == "loss-per-example"


def test_gradients_of_a_saturated_softmax_are_clipped_by_no_norm(small):
    """Where every gradient is 0 by the formula, no share of its norm can be what was cut."""
    labels = np.full_like(small.train_labels, 3)
    big = {name: np.zeros_like(value) for name, value in initial_weights(0).items()}
    big["fc3.bias"] = np.where(np.arange(10) == 3, 1e4, 0.0).astype(np.float32)

    def shifted(gradients, _):
        return {name: value + 1e-3 for name, value in gradients.items()}

    found = explained(oracle(clip_gradients=shifted), replace(small, train_labels=labels), weights=big)
    assert [unknown.place.stage for unknown in found.unknown] == ["gradients"]
