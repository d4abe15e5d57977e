"""Adapted torch programs keep the contract's promises, whatever the module and the optimizer."""

import copy
import inspect
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torch_impl
from parity.contract import SGD, Implementation, InputError, SelfContained
from tests.torch_impl.programs import MLP, PROGRAMS, ROWS, Residual, block, draws, mlp, residual

PLAN = np.arange(ROWS, dtype=np.int32).reshape(6, 4)

OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), 0),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.01), 1),
    "adam": (torch.optim.Adam, 2),
    "amsgrad": (lambda p: torch.optim.AdamW(p, amsgrad=True), 3),
    "nadam": (torch.optim.NAdam, 2),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.5), 3),
    "adagrad": (torch.optim.Adagrad, 1),
    "adadelta": (torch.optim.Adadelta, 2),
}


def begin(side, dtype="float64"):
    weights, data = side.example()
    state = side.start(weights, SGD(), dtype=dtype, device="cpu")
    return state, side.place(state, *data)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


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
    assert "eager, CPU" in side.describe(state)


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


@pytest.mark.parametrize("make", PROGRAMS)
def test_a_run_is_plain_torch_training(make):
    """The same steps written out, on a copy of the same module."""
    side = make()
    module, optimizer = copy.deepcopy((side.program.module, side.program.optimizer))
    module.double()
    inputs, targets = (torch.tensor(a, dtype=torch.float64 if a.dtype.kind == "f" else None) for a in side.data)
    losses = []
    for rows in PLAN:
        optimizer.zero_grad()
        loss = side.program.loss(module(inputs[rows]), targets[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    state, data = begin(side)
    after, ours = side.run(state, data, PLAN)
    np.testing.assert_array_equal(ours, losses)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, value in side.weights(after).items():
        np.testing.assert_array_equal(value, own[name].detach().numpy(), err_msg=name)
    module.eval()
    np.testing.assert_array_equal(side.logits(after, data), module(inputs).detach().numpy())


@pytest.mark.parametrize("make", PROGRAMS)
def test_observing_a_step_is_running_it(make):
    """Both are eager torch on the same rows, so to the last bit; running statistics move once."""
    side = make()
    state, data = begin(side)
    state, _ = side.run(state, data, PLAN[:2])
    ran, losses = side.run(state, data, PLAN[2:3])
    observed, trace = side.observe(state, data, PLAN[2])
    assert_same(everything(side, ran), everything(side, observed))
    np.testing.assert_array_equal(trace.loss["loss"], losses[0])
    assert_same(trace.weights, side.weights(state))
    assert_same(trace.parameters, side.weights(ran))
    assert_same(trace.momentum, side.momentum(ran))
    for number, array in enumerate(side.data):
        np.testing.assert_array_equal(trace.batch[str(number)], array[PLAN[2]])
    assert_same(side.run(ran, data, PLAN)[0].tensors, side.run(observed, data, PLAN)[0].tensors)


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
    make, slots = OPTIMIZERS[name]
    side = residual(make)
    state, data = begin(side)
    middle, _ = side.run(state, data, PLAN[:3])
    momentum = side.momentum(middle)
    parameters = [name for name, _ in side.program.module.named_parameters()]
    assert len(momentum) == slots * len(parameters)
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


def test_restoring_keeps_step_counts_and_integer_buffers():
    side = residual()
    state, data = begin(side)
    middle, _ = side.run(state, data, PLAN[:3])
    back = side.restore(middle, side.weights(state), {})
    assert back.tensors["bn1.num_batches_tracked"] == 3
    assert back.optimizer.entries["conv1.weight"]["step"] == 3
    assert not any(value.any() for value in side.momentum(back).values())
    assert middle.optimizer.entries["conv1.weight"]["exp_avg"].any()


def test_restoring_no_momentum_makes_the_next_step_sgds_first():
    """With dampening, the first step differs from one with a buffer of zeros."""
    side = mlp(OPTIMIZERS["momentum"][0])
    state, data = begin(side)
    middle, _ = side.run(state, data, PLAN[:3])
    back = side.restore(middle, side.weights(state), {})
    assert side.momentum(back) == side.momentum(state) == {}
    np.testing.assert_array_equal(side.run(back, data, PLAN)[1], side.run(state, data, PLAN)[1])


@pytest.mark.parametrize("name", ["momentum", "adam", "amsgrad", "rmsprop", "adadelta"])
def test_momentum_can_be_given_before_the_first_step(name):
    side = mlp(OPTIMIZERS[name][0])
    state, data = begin(side)
    momentum = side.momentum(side.run(state, data, PLAN)[0])
    given = side.restore(state, side.weights(state), momentum)
    assert_same(side.momentum(given), momentum)
    assert side.momentum(state) == {}
    assert all(entry.get("step", 0) == 0 for entry in given.optimizer.entries.values())
    after, _ = side.run(given, data, PLAN[:1])
    assert all(entry.get("step", 1) == 1 for entry in after.optimizer.entries.values())


def test_momentum_is_refused_where_the_optimizers_start_is_not_known():
    side = mlp(OPTIMIZERS["nadam"][0])
    state, data = begin(side)
    momentum = side.momentum(side.run(state, data, PLAN)[0])
    with pytest.raises(InputError, match="taken no step yet, and keeps mu_product of hidden.weight"):
        side.restore(state, side.weights(state), momentum)


def test_slots_are_numbered_in_the_documented_order():
    side = mlp(OPTIMIZERS["rmsprop"][0])
    state, data = begin(side)
    after, _ = side.run(state, data, PLAN)
    entry, momentum = after.optimizer.entries["out.bias"], side.momentum(after)
    for name, slot in (("out.bias", "grad_avg"), ("out.bias:2", "square_avg"), ("out.bias:3", "momentum_buffer")):
        np.testing.assert_array_equal(momentum[name], entry[slot].numpy())


def test_parameter_groups_are_kept():
    module = MLP()
    groups = [{"params": module.hidden.parameters(), "lr": 0.0}, {"params": module.out.parameters()}]
    rng = draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 2))
    side = torch_impl.adapt(module, F.mse_loss, torch.optim.SGD(groups, lr=0.1), data=data)
    state, placed = begin(side)
    before, after = side.weights(state), side.weights(side.run(state, placed, PLAN)[0])
    np.testing.assert_array_equal(before["hidden.weight"], after["hidden.weight"])
    assert not np.array_equal(before["out.weight"], after["out.weight"])


def test_the_users_module_and_optimizer_are_left_untouched():
    module = Residual()
    optimizer = torch.optim.Adam(module.parameters())
    module.bn2.eval()
    before, modes = copy.deepcopy(module.state_dict()), [part.training for part in module.modules()]
    rng = draws()
    data = rng.normal(size=(ROWS, 2, 5, 5)), rng.integers(0, 4, ROWS)
    side = torch_impl.adapt(module, F.cross_entropy, optimizer, data=data)
    default, random = torch.get_default_dtype(), torch.get_rng_state()
    state, placed = begin(side)
    after, _ = side.run(state, placed, PLAN)
    side.observe(after, placed, PLAN[0])
    side.logits(after, placed)
    assert_same({k: v.numpy() for k, v in before.items()}, {k: v.numpy() for k, v in module.state_dict().items()})
    assert not optimizer.state
    assert [part.training for part in module.modules()] == modes
    assert not module._forward_hooks
    assert torch.get_default_dtype() == default
    assert torch.equal(torch.get_rng_state(), random)
    # A part in evaluation mode is trained in it, after logits() as before.
    np.testing.assert_array_equal(side.weights(after)["bn2.running_mean"], side.weights(state)["bn2.running_mean"])
    final = side.weights(side.run(after, placed, PLAN)[0])
    np.testing.assert_array_equal(final["bn2.running_mean"], side.weights(state)["bn2.running_mean"])
    assert not np.array_equal(final["bn1.running_mean"], side.weights(state)["bn1.running_mean"])


def test_what_the_user_trains_later_does_not_reach_the_program():
    module = MLP()
    rng = draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 2))
    side = torch_impl.adapt(module, F.mse_loss, torch.optim.SGD(module.parameters(), lr=0.1), data=data)
    before = side.example()[0]
    nn.init.zeros_(module.out.weight)
    assert_same(side.example()[0], before)


def test_dropout_repeats_and_goes_on():
    """torch's generator is part of the state: the same state gives the same run, the next one other masks."""
    module = nn.Sequential(nn.Linear(5, 50), nn.Dropout(0.5), nn.Linear(50, 2))
    rng = draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 2))
    side = torch_impl.adapt(module, F.mse_loss, torch.optim.SGD(module.parameters(), lr=0.0), data=data)
    state, placed = begin(side)
    once, losses = side.run(state, placed, PLAN[:1])
    np.testing.assert_array_equal(side.run(state, placed, PLAN[:1])[1], losses)
    _, trace = side.observe(state, placed, PLAN[0])
    np.testing.assert_array_equal(trace.loss["loss"], losses[0])
    np.testing.assert_array_equal(trace.activations["2.addmm"], trace.logits["logits"])
    assert side.run(once, placed, PLAN[:1])[1] != losses


def test_a_parameter_that_the_loss_does_not_use_has_a_zero_gradient_and_a_frozen_one_none():
    module = MLP()
    module.unused = nn.Parameter(torch.ones(3))
    module.out.bias.requires_grad_(False)
    rng = draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 2))
    side = torch_impl.adapt(module, F.mse_loss, torch.optim.Adam(module.parameters()), data=data)
    state, placed = begin(side)
    after, trace = side.observe(state, placed, PLAN[0])
    np.testing.assert_array_equal(trace.gradients["unused"], np.zeros(3))
    assert "out.bias" not in trace.gradients
    assert_same(side.momentum(side.restore(after, side.weights(after), trace.momentum)), trace.momentum)


def test_a_module_may_keep_what_it_computed_last():
    class Keeping(MLP):
        def forward(self, x):
            self.last = super().forward(x)
            return self.last

    module = Keeping()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    rng = draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 2))
    side = torch_impl.adapt(module, F.mse_loss, optimizer, data=data)
    state, placed = begin(side)
    side.run(side.run(state, placed, PLAN)[0], placed, PLAN)
    module(torch.zeros(1, 5))
    with pytest.raises(InputError, match="module Keeping: it cannot be copied"):
        torch_impl.adapt(module, F.mse_loss, optimizer, data=data)


def test_a_loss_module_follows_the_runs_dtype():
    module = nn.Linear(5, 4)
    rng = draws()
    data = rng.normal(size=(ROWS, 5)), rng.integers(0, 4, ROWS)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.1, 0.2, 0.3, 0.4]))
    side = torch_impl.adapt(module, loss, torch.optim.SGD(module.parameters(), lr=0.1), data=data)
    state, placed = begin(side)
    assert side.run(state, placed, PLAN)[1].dtype == np.float64
    assert loss.weight.dtype == torch.float32


def test_several_inputs_and_no_target():
    class Distance(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, left, right, mask):
            return (self.layer(left) - self.layer(right)) * mask[:, None]

    module, rng = Distance(), draws()
    data = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, 5)), rng.integers(0, 2, ROWS) > 0
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    side = torch_impl.adapt(module, lambda y: y.square().mean(), optimizer, data=data, inputs=3)
    state, placed = begin(side)
    _, losses = side.run(state, placed, PLAN)
    assert np.isfinite(losses).all()
    with pytest.raises(InputError, match="inputs 3: there are 2 arrays"):
        side.place(state, *data[:2])


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


def starting_with(change):
    side = mlp()
    weights = dict(side.example()[0])
    change(weights)
    return side.start(weights, SGD(), dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda w: w.pop("out.bias"), "tensor out.bias is missing"),
        (lambda w: w.update(other=np.zeros(3)), "tensor other is not one of the program's"),
        (lambda w: w.update({"out.bias": np.zeros(3)}), r"tensor out.bias has shape \(3,\), not \(2,\)"),
        (lambda w: w.update({"out.bias": np.zeros(2, int)}), "tensor out.bias is int64, not of floats"),
        (lambda w: w.update({"out.bias": np.full(2, np.nan)}), "tensor out.bias holds NaN"),
    ],
)
def test_refuses_weights_of_another_program(change, problem):
    with pytest.raises(InputError, match=f"^weights given: {problem}"):
        starting_with(change)


def test_refuses_another_sgd_other_momentum_and_devices_that_are_not_here():
    side = mlp()
    weights, data = side.example()
    with pytest.raises(InputError, match="this program brings its own optimizer"):
        side.start(weights, SGD(lr=0.5), dtype="float32", device="cpu")
    with pytest.raises(InputError, match="device tpu"):
        side.start(weights, SGD(), dtype="float32", device="tpu")
    state = side.start(weights, SGD(), dtype="float32", device="cpu")
    after, _ = side.run(state, side.place(state, *data), PLAN)
    momentum = side.momentum(after)
    del momentum["out.bias"]
    with pytest.raises(InputError, match="^momentum given: tensor out.bias is missing"):
        side.restore(after, weights, momentum)


X, Y = np.ones((4, 5)), np.ones((4, 2))


@pytest.mark.parametrize(
    ("data", "inputs", "problem"),
    [
        ((X, Y[:3]), 1, r"data array 1: its shape is \(3, 2\), that of array 0 is \(4, 5\)"),
        ((X, np.ones(())), 1, "data array 1: its shape is"),
        ((X[:0], Y[:0]), 1, "data array 0: its shape is"),
        ((X, np.array(["a"] * 4)), 1, "data array 1: its type is <U1"),
        ((X, Y), 3, "inputs 3: there are 2 arrays"),
        ((X, Y), 0, "inputs 0: there are 2 arrays"),
    ],
)
def test_refuses_data_that_do_not_fit_together(data, inputs, problem):
    module = MLP()
    with pytest.raises(InputError, match=problem):
        torch_impl.adapt(module, F.mse_loss, torch.optim.SGD(module.parameters(), lr=0.1), data=data, inputs=inputs)


def test_refuses_an_optimizer_over_another_module():
    with pytest.raises(InputError, match="optimizer SGD: it holds a parameter that is not the module's"):
        torch_impl.adapt(MLP(), F.mse_loss, torch.optim.SGD(MLP().parameters(), lr=0.1), data=(X, Y))


class Leaking(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.body = body

    def forward(self, x):
        return self.body(self.layer(x))


class RoundedGradient(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient.float().double()


def adapt_leaking(body, loss=F.mse_loss, optimizer=torch.optim.SGD):
    module = Leaking(body)
    return torch_impl.adapt(module, loss, optimizer(module.parameters(), lr=0.1), data=(X, Y))


@pytest.mark.parametrize(
    ("body", "loss", "dtype", "where"),
    [
        (lambda y: y.float().double(), F.mse_loss, "float64", "to_copy: it computes in float32 in a float64 run"),
        (lambda y: y.bfloat16().float(), F.mse_loss, "float32", "to_copy: it computes in bfloat16 in a float32 run"),
        (lambda y: y.double(), F.mse_loss, "float32", "to_copy: it computes in float64 in a float32 run"),
        (lambda y: y * torch.full((2,), 0.1, dtype=torch.float32).sin(), F.mse_loss, "float64", "sin: .* float32"),
        (lambda y: y, lambda y, t: F.mse_loss(y.float(), t.float()), "float64", "loss.to_copy: .* float32"),
        (RoundedGradient.apply, F.mse_loss, "float64", "backward.to_copy: .* float32"),
    ],
)
def test_refuses_another_precision_than_the_runs(body, loss, dtype, where):
    side = adapt_leaking(body, loss)
    with pytest.raises(InputError, match=f"^program {where}"):
        side.start(side.example()[0], SGD(), dtype=dtype, device="cpu")


@pytest.mark.parametrize(
    "body",
    [
        lambda y: y * (y > 0).float(),
        lambda y: y * (y[:, 0] > 0).float()[:, None].clone(),
        lambda y: y * torch.ones(2) + torch.tensor(0.5),
        lambda y: y * torch.arange(2).to(y.dtype),
    ],
)
def test_masks_and_constants_are_no_other_precision(body):
    side = adapt_leaking(body)
    state, data = begin(side)
    assert side.observe(state, data, np.arange(4, dtype=np.int32))[1].logits["logits"].dtype == np.float64


def test_refuses_an_optimizer_that_keeps_another_precision():
    class Rounding(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            for entry in self.state.values():
                entry["momentum_buffer"] = entry["momentum_buffer"].float()

    side = adapt_leaking(lambda y: y, optimizer=lambda p, lr: Rounding(p, lr=lr, momentum=0.9))
    with pytest.raises(InputError, match="the optimizer's momentum_buffer of layer.weight: it computes in float32"):
        begin(side)


@pytest.mark.parametrize(
    ("body", "loss", "problem"),
    [
        (lambda y: (y, y), lambda y, t: F.mse_loss(y[0], t), "program output: it is not an array"),
        (lambda y: y.mean(), lambda y, t: (y - t).mean(), r"program output: for 2 rows its shape is \(\)"),
        (lambda y: y, lambda y, t: (y - t).square().sum(1).mean(0, keepdim=True), r"program loss: its shape is \(1,\)"),
        (lambda y: y, lambda *_: 1.0, "program loss: it is not an array"),
    ],
)
def test_refuses_results_that_cannot_be_compared(body, loss, problem):
    with pytest.raises(InputError, match=problem):
        begin(adapt_leaking(body, loss))


def test_a_program_is_adapted_in_a_few_lines():
    """Imports, data and class aside: what the user writes is one call."""
    assert len(inspect.getsource(mlp).splitlines()) < 15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begin(block())
