"""The oracle and the two built-in sides train alike, step by step in float64, for any valid arguments of SGD."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings

import jax_impl
import torch_impl
import torch_impl.model
from parity.compare import largest_gap, loss_differences, relative_difference
from parity.contract import CNN_ACTIVATIONS, SGD, initial_weights
from parity.data import Loader
from parity.oracle import Operations, Oracle, impl
from tests.test_sgd_agreement import sgds

# A step's sums have up to 3,136 terms, whose roundings of 1.1e-16 grow with the square root of their number, to 6e-15
# of the tensor. A stable lr does not amplify them, and those of 45 steps add up like a square root again, to 4e-14.
BOUND = 1e-13
SIZE = 58


def plans():
    """45 steps: three epochs of 14 batches of 4 images and a last one of 2."""
    loader = Loader(size=SIZE, batch_size=4, seed=0)
    pieces = [plan for epoch in range(3) for plan in loader.plans(epoch)]
    assert [plan.shape for plan in pieces] == [(14, 4), (1, 2)] * 3
    return pieces


def train(side, sgd, dataset):
    """Losses of all steps; weights and momentum after each piece of the plan; the logits at the end."""
    state = side.start(initial_weights(0), sgd, dtype="float64", device="cpu")
    data = side.place(state, dataset.train_images[:SIZE], dataset.train_labels[:SIZE])
    losses, tensors = [], []
    for plan in plans():
        state, found = side.run(state, data, plan)
        losses.append(found)
        tensors += [side.weights(state), side.momentum(state)]
    return np.concatenate(losses), tensors, side.logits(state, data)


def largest_difference(a, b):
    gaps = [largest_gap(ours, theirs) for ours, theirs in zip(a[1], b[1], strict=True)]
    tensors = max(gap.difference for gap in gaps if gap is not None)
    return max(loss_differences(a[0], b[0]).max(), tensors, relative_difference(a[2], b[2]))


EXAMPLES = [
    SGD(lr=0.01),
    SGD(lr=0.002, dampening=0.3, weight_decay=0.05),
    SGD(lr=0.01, momentum=0.0, dampening=0.5, weight_decay=0.05),
    SGD(lr=0.002, nesterov=True, maximize=True, weight_decay=0.05),
]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sgd=sgds(largest_lr=0.02))
@example(sgd=EXAMPLES[0])
@example(sgd=EXAMPLES[1])
@example(sgd=EXAMPLES[2])
@example(sgd=EXAMPLES[3])
def test_torch_trains_as_the_oracle(sgd, small):
    ours, theirs = train(impl, sgd, small), train(torch_impl.eager, sgd, small)
    assert len(ours[0]) == 45
    assert largest_difference(ours, theirs) < BOUND


# Few: each compiles JAX's loop anew for both sizes of batch, which takes seconds.
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sgd=sgds(largest_lr=0.02))
@example(sgd=EXAMPLES[1])
@example(sgd=EXAMPLES[3])
def test_jax_trains_as_the_oracle(sgd, small):
    assert largest_difference(train(impl, sgd, small), train(jax_impl.impl, sgd, small)) < BOUND


def test_where_training_diverges_it_does_so_at_the_same_step_and_without_warnings(small):
    (ours, *_), (theirs, *_) = (train(side, SGD(lr=1e30), small) for side in (impl, torch_impl.eager))
    assert np.isfinite(ours).sum() == 2  # a smaller lr closes every ReLU for good instead
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))


def by_a_thousandth(operation):
    """The operation with its first result wrong by 0.1 %."""

    def wrong(*arguments):
        found = operation(*arguments)
        if isinstance(found, dict):
            return {name: value * 1.001 for name, value in found.items()}
        return (found[0] * 1.001, *found[1:]) if isinstance(found, tuple) else found * 1.001

    return wrong


@pytest.mark.parametrize("name", [field.name for field in fields(Operations)])
def test_each_operation_can_be_replaced_and_the_bound_catches_it(name, small):
    operations = Operations(**{name: by_a_thousandth(getattr(Operations(), name))})
    wrong, right = (train(side, SGD(), small) for side in (Oracle(operations=operations), impl))
    assert largest_difference(wrong, right) > 1e6 * BOUND


def test_on_real_images(real):
    ours, theirs = (train(side, SGD(lr=0.01), real) for side in (impl, torch_impl.eager))
    assert largest_difference(ours, theirs) < BOUND


def torch_stages(trace):
    """The same step by torch's layers and torch's autograd: activations, logits, loss and gradients."""
    model = torch_impl.model.CNN(dtype=torch.float64, device=torch.device("cpu"))
    model.load_state_dict({name: torch.tensor(value) for name, value in trace.weights.items()})
    seen = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: seen.update({name: output}))
    logits = model(torch.tensor(trace.batch["images"]))
    loss = F.cross_entropy(logits, torch.tensor(trace.batch["labels"]))
    torch.autograd.backward(loss)
    seen |= {f"pool{n}": F.max_pool2d(F.relu(seen[f"conv{n}"]), 2) for n in (1, 2)}
    seen |= {"relu3": F.relu(seen["fc1"]), "relu4": F.relu(seen["fc2"])}
    stages = {
        "activations": {name: seen[name] for name in CNN_ACTIVATIONS},
        "logits": {"logits": logits},
        "loss": {"loss": loss},
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
    }
    return {stage: {name: t.detach().numpy() for name, t in tensors.items()} for stage, tensors in stages.items()}


def test_every_stage_of_a_step_is_torchs(small):
    state = impl.start(initial_weights(1), SGD(), dtype="float64", device="cpu")
    data = impl.place(state, small.train_images, small.train_labels)
    _, trace = impl.observe(state, data, np.array([5, 17, 90], np.int32))
    for stage, theirs in torch_stages(trace).items():
        ours = getattr(trace, stage)
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            # A single step: see BOUND.
            assert relative_difference(value, theirs[name]) < 1e-14, (stage, name)
