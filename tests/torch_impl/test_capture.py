"""Captured are the values that the forward pass computes, with the right parents, whatever the code looks like."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torch_impl
from parity.contract import SGD
from tests.torch_impl.programs import PROGRAMS, ROWS, block, mlp, residual

BATCH = np.arange(4, dtype=np.int32)


def observe(side):
    weights, data = side.example()
    state = side.start(weights, SGD(), dtype="float64", device="cpu")
    _, trace = side.observe(state, side.place(state, *data), BATCH)
    return state, trace


def trace_of(body, *, data=None, loss=lambda y: y.square().mean()):
    """The trace of a module that computes body(layer(x)); its first activation is `layer.addmm`."""

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(3, 6)

        def forward(self, x):
            return body(self.layer(x))

    module = Module()
    data = data or (np.random.default_rng(0).normal(size=(8, 3)),)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    return observe(torch_impl.adapt(module, loss, optimizer, data=data, inputs=len(data)))[1]


@pytest.mark.parametrize("make", PROGRAMS)
def test_the_outputs_of_all_modules_are_among_the_activations(make):
    """Compared with forward hooks on a module of one's own, in float64 with the same operations: to the last bit."""
    side = make()
    _, trace = observe(side)
    module = side.program.copy().module.double()
    outputs = {}
    for name, part in module.named_modules():
        if not list(part.children()):
            # A copy: ReLU in place overwrites the batch norm's output.
            part.register_forward_hook(lambda *call, name=name: outputs.update({name: call[-1].clone()}))
    module(torch.tensor(side.data[0][BATCH], dtype=torch.float64 if side.data[0].dtype.kind == "f" else None))
    assert len(outputs) >= 2
    for name, output in outputs.items():
        recorded = [value for key, value in trace.activations.items() if key.startswith(f"{name}.")]
        matches = [np.array_equal(value.ravel(), output.detach().numpy().ravel()) for value in recorded]
        assert any(matches), name
    assert set(trace.parents) == set(trace.activations)


def test_the_mlp_by_hand():
    side = mlp()
    _, trace = observe(side)
    w = trace.weights
    hidden = trace.batch["0"] @ w["hidden.weight"].T + w["hidden.bias"]
    expected = {
        "hidden.addmm": hidden,
        "tanh": np.tanh(hidden),
        "out.addmm": np.tanh(hidden) @ w["out.weight"].T + w["out.bias"],
    }
    assert list(trace.activations) == list(expected)
    for name, value in expected.items():
        # Sums of at most 7 products of numbers about 1: a few units of 2^-53 from any order.
        np.testing.assert_allclose(trace.activations[name], value, rtol=0, atol=1e-14, err_msg=name)
    assert trace.parents == {"hidden.addmm": (), "tanh": ("hidden.addmm",), "out.addmm": ("tanh",)}


def test_the_parents_in_a_residual_block():
    _, trace = observe(residual())
    parents = {name: found for name, found in trace.parents.items() if "[" not in name}
    assert parents == {
        "conv1.convolution": (),
        "bn1.native_batch_norm": ("conv1.convolution",),
        "relu": ("bn1.native_batch_norm",),
        "conv2.convolution": ("relu",),
        "bn2.native_batch_norm": ("conv2.convolution",),
        "add": ("relu", "bn2.native_batch_norm"),
        "mean": ("add",),
        "fc.addmm": ("mean",),
        "loss.log_softmax": ("fc.addmm",),
    }
    assert list(parents) == [name for name in trace.activations if "[" not in name]


def test_an_operation_in_place_does_not_change_what_was_recorded_before():
    _, trace = observe(residual())
    before, after = trace.activations["bn1.native_batch_norm"], trace.activations["relu"]
    assert (before < 0).any()
    np.testing.assert_array_equal(np.maximum(before, 0), after)


def test_running_statistics_move_once_while_a_step_is_observed():
    _, trace = observe(residual())
    mean = trace.activations["conv1.convolution"].mean((0, 2, 3))
    np.testing.assert_array_equal(trace.weights["bn1.running_mean"], 0)
    # torch's update is 0.9 * running + 0.1 * batch; twice would be 0.19.
    np.testing.assert_allclose(trace.parameters["bn1.running_mean"], 0.1 * mean, rtol=1e-12, atol=1e-15)


def test_the_transformers_residual_stream():
    _, trace = observe(block())
    a, parents = trace.activations, trace.parents
    np.testing.assert_array_equal(a["embed.embedding"], trace.weights["embed.weight"][trace.batch["0"]])
    assert parents["add"] == ("embed.embedding", "proj.addmm")
    assert parents["add:2"] == ("add", "down.addmm")
    assert parents["gelu"] == ("up.addmm",)
    np.testing.assert_array_equal(a["add"], a["embed.embedding"] + a["proj.addmm"].reshape(4, 6, 8))


def test_views_and_copies_are_no_activations_but_parents_pass_through_them():
    trace = trace_of(lambda y: torch.sin(y.view(-1, 2, 3).transpose(1, 2).contiguous()[:, :2].flip(0).clone()))
    assert trace.parents == {"layer.addmm": (), "sin": ("layer.addmm",), "loss.pow": ("sin",)}


def test_what_does_not_depend_on_the_inputs_is_no_activation():
    def body(y):
        return y * torch.arange(6).sin() + torch.ones_like(y) * 2

    trace = trace_of(body)
    assert trace.parents == {"layer.addmm": (), "mul": ("layer.addmm",), "add": ("mul",), "loss.pow": ("add",)}


def test_what_leads_nowhere_is_no_activation():
    def body(y):
        y.exp().sum()
        return y.cos()

    assert list(trace_of(body).activations) == ["layer.addmm", "cos", "loss.pow"]


def test_scalars_and_masks_are_no_activations_but_parents_pass_through_them():
    trace = trace_of(lambda y: y.sin() * y.cos().max() * (y.tan() > 0))
    assert trace.parents["mul"] == ("sin", "cos")
    assert trace.parents["mul:2"] == ("mul", "tan")


def test_writing_to_a_part_keeps_what_was_there_before():
    def body(y):
        y = y * 3
        y[:, 0] += 1
        buffer = torch.zeros_like(y)
        buffer[:, :3] = y.sin()[:, :3]
        buffer[:, 3:] = y.cos()[:, 3:]
        return buffer * 2

    trace = trace_of(body)
    assert trace.parents["add"] == ("mul",)
    assert trace.parents["sin"] == trace.parents["cos"] == ("add", "mul")
    assert set(trace.parents["mul:2"]) == {"sin", "cos"}


def test_repeated_operations_get_names_of_their_own():
    trace = trace_of(lambda y: y.sin().sin().sin())
    assert list(trace.activations) == ["layer.addmm", "sin", "sin:2", "sin:3", "loss.pow"]
    np.testing.assert_array_equal(np.sin(trace.activations["sin"]), trace.activations["sin:2"])


def test_several_inputs_all_count():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, left, right):
            return self.layer(left) + right.sin()

    module = Two()
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), rng.normal(size=(8, 2))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    side = torch_impl.adapt(module, lambda y, t: (y - t.sin()).square().mean(), optimizer, data=data, inputs=2)
    trace = observe(side)[1]
    assert trace.parents["add"] == ("layer.addmm", "sin")
    assert "loss.sin" not in trace.activations  # of the targets alone
    assert trace.parents["loss.sub"] == ("add",)


def test_a_branch_that_raises_leaves_no_hook_behind():
    rows = []

    class Raising(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            rows.append(len(x))
            if len(x) == 4:
                raise ArithmeticError("four")
            return self.layer(x)

    module = Raising()
    data = np.ones((ROWS, 3)), np.ones((ROWS, 2))
    side = torch_impl.adapt(module, F.mse_loss, torch.optim.SGD(module.parameters(), lr=0.1), data=data)
    state = side.start(side.example()[0], SGD(), dtype="float64", device="cpu")
    default = torch.get_default_dtype()
    with pytest.raises(ArithmeticError, match="four"):
        side.observe(state, side.place(state, *data), BATCH)
    assert torch.get_default_dtype() == default
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in state.bench.program.module.modules())
