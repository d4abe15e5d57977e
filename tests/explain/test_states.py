"""Causes from losses, parameters and momentum alone; the rest is made by the formulas, or not claimed."""

from dataclasses import replace

import numpy as np
import pytest

from parity.contract import initial_weights
from parity.explain import explain_start, explain_states
from parity.explain.alternatives import alternatives
from parity.explain.network import NODES, output_of
from parity.explain.relayout import round_to
from parity.oracle import layers
from parity.oracle.layers import normalise
from parity.oracle.sgd import sgd_update
from parity.trace.projection import Projector
from tests.explain.steps import HONEST, SGDS, evidence, oracle, sgd_with, stepping
from tests.explain.test_rates import ClipsUpdates, by_norm
from tests.explain.test_side import forgetful, strange, summed


def states(implementation, dataset, **keywords):
    """What a trace holds of the steps: the batches that were due, weights, losses, momentum and parameters."""
    whole = evidence(implementation, dataset, **keywords)
    kept = [
        replace(
            trace,
            batch={"images": whole.images[rows], "labels": np.asarray(whole.labels)[rows]},
            activations={},
            logits={},
            gradients={},
        )
        for trace, rows in zip(whole.traces, whole.rows, strict=True)
    ]
    return explain_states(replace(whole, traces=tuple(kept)))


@pytest.mark.parametrize("sgd", SGDS)
def test_an_honest_side_has_no_cause(sgd, small):
    assert states(HONEST, small, sgd=sgd) == []


def test_two_readings_that_explain_all_are_a_class(small):
    """A decay may be in the optimizer, or in the gradients that it is given."""
    (cause,) = states(sgd_with(weight_decay=1e-3), small)
    assert cause.keys == ("weight-decay-added", "decay-in-gradient")
    assert cause.sentence == "decays weights by 0.001, not 0"
    assert cause.alike == ("adds 0.001 times all parameters to the gradients before the optimizer (a weight decay)",)


def test_a_reading_that_leaves_something_is_none(small):
    """A momentum that is lost would have to be gradients that know of the step before."""
    (cause,) = states(stepping(forgetful), small)
    assert cause.keys == ("no-momentum", "momentum-state-lost")
    (cause,) = states(ClipsUpdates(lambda updates, _: by_norm(updates, 5e-4)), small)
    assert cause.keys == ("update-clipped",)


def test_a_loss_and_the_gradients_of_another(small):
    assert [cause.key for cause in states(oracle(cross_entropy=summed), small)] == ["loss-summed", "loss-only-reported"]


def test_a_forward_pass_and_an_optimizer(small):
    def leaky(x):
        return np.where(x > 0, x, 0.1 * x)

    def leaky_backward(upstream, x):
        return np.where(x > 0, upstream, 0.1 * upstream)

    def ahead(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, nesterov=True), step)

    found = states(oracle(relu=leaky, relu_backward=leaky_backward, sgd_update=ahead), small)
    assert [cause.key for cause in found] == ["other-activation", "nesterov"]
    assert found[0].sentence == "has a leaky ReLU of slope 0.1 in place of each ReLU"


def test_a_forward_pass_whose_gradients_are_not_its_own_is_not_named(small):
    def leaky(x):
        return np.where(x > 0, x, 0.1 * x)

    assert states(oracle(relu=leaky), small) is None


@pytest.mark.parametrize(
    "side",
    [
        stepping(strange),
        oracle(relu=lambda x: np.maximum(x, 0) + 0.1 * np.sin(3 * x)),
        oracle(clip_gradients=lambda g, _: {name: round_to(value, 8) for name, value in g.items()}),
        oracle(cross_entropy=lambda z, y: layers.cross_entropy(z, y) ** 2),
    ],
    ids=["update", "layer", "rounded", "loss"],
)
def test_what_is_not_explained_whole_is_not_explained(side, small):
    assert states(side, small) is None


def test_one_loss_shows_no_forward_pass(small):
    fed = oracle(normalise=lambda images: (normalise(images) + 1) / 2)
    assert states(fed, small, sizes=(4,)) is None
    (cause,) = states(fed, small, sizes=(4, 4))
    assert (cause.key, str(cause.place)) == ("no-shift", "batch, images")


def test_every_alternative_is_another_function(small):
    """None is the forward pass that is meant, but for a second ReLU where one follows."""
    # Eight times as large, so that a ReLU6 cuts something.
    weights = {name: 8 * np.asarray(value, np.float64) for name, value in initial_weights(0).items()}
    images, labels = normalise(small.train_images[:4]), np.asarray(small.train_labels[:4])

    def outputs(nodes):
        x = images
        for node in nodes.values():
            x = output_of(node, x, weights)
        return x

    computed = 0
    for alternative in alternatives():
        try:
            found = outputs(alternative.nodes)
        except ValueError:  # a pool that is left out: the next layer does not fit
            continue
        computed += 1
        same = np.array_equal(found, outputs(NODES)) and np.array_equal(alternative.labels(labels), labels)
        assert same == (alternative.key == "extra-relu"), alternative.sentence
    assert computed > 300


def seen(change):
    """The projections of initial weights that are changed."""
    shapes = {name: value.shape for name, value in initial_weights(0).items()}

    def view(name, value):
        return Projector({name: shapes[name]})({name: value})

    given = initial_weights(0)
    held = {name: np.asarray(value, np.float64) for name, value in {**given, **change(given)}.items()}
    return explain_start("b", given, {name: view(name, value) for name, value in held.items()}, view)


@pytest.mark.parametrize(
    ("change", "key", "text"),
    [
        (lambda w: {"conv1.weight": w["conv1.weight"].swapaxes(2, 3)}, "kernel-axes-swapped", "height and width"),
        (lambda w: {"fc1.weight": w["fc1.weight"].reshape(400, 120).T}, "linear-reshaped", "reshaped to (in,out)"),
        (lambda w: {"fc2.weight": w["fc2.weight"].astype(np.float16)}, "weights-rounded", "float16"),
        (
            lambda w: {"conv2.bias": 0 * w["conv2.bias"], "fc1.bias": 0 * w["fc1.bias"]},
            "weights-zero",
            "conv2.bias, fc1",
        ),
    ],
)
def test_initial_weights_are_told_from_their_projections(change, key, text, small):
    (cause,) = seen(change)
    assert (cause.key, cause.place.stage, cause.step) == (key, "weights", 0)
    assert text in cause.sentence


def test_initial_weights_of_another_kind_are_not_named():
    assert seen(lambda _: {}) == []
    (unknown,) = seen(lambda _: {"fc2.weight": initial_weights(9)["fc2.weight"]})
    assert str(unknown).startswith("unknown: b at step 0, weights, fc2.weight, ")
