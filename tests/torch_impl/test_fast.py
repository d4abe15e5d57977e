"""The fast path computes what the plain one does: every argument of SGD, any batch size, any number of threads."""

from __future__ import annotations

import dataclasses
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import torch_impl
from parity.compare import largest_gap, loss_differences
from parity.contract import CNN_PARAMETERS, SGD, OneCycleLR, StepLR, initial_weights
from parity.testing import check_implementation
from tests.schedules import simple
from torch_impl.device import threads
from torch_impl.flat import Flat
from torch_impl.flat_sgd import decayed, update
from torch_impl.layout import from_canonical
from torch_impl.program import BLOCK, LEAST, PASSES, PIECE, Pixels, Program, Training, program, shares
from torch_impl.replay import STEPS, Replay
from torch_impl.schedule import Rates
from torch_impl.sgd import make_optimizer

CPU = torch.device("cpu")
# Rounding enters at 1e-16 a step, and 50 steps with these learning rates amplify it by far less than 1e4.
BOUND = 1e-12


@st.composite
def sgds(draw):
    """Valid arguments of every kind; lr small enough for rounding not to be amplified."""
    momentum = draw(st.just(0.0) | st.floats(0.01, 0.95))
    nesterov = draw(st.booleans()) and momentum > 0
    clip = draw(st.sampled_from(["clip_norm", "clip_value", None]))
    sgd = SGD(
        lr=draw(st.floats(1e-4, 1.0)) * 0.02 * (1 - momentum),
        momentum=momentum,
        dampening=0.0 if nesterov else draw(st.just(0.0) | st.floats(0.0, 1.0)),
        weight_decay=draw(st.just(0.0) | st.floats(1e-6, 0.1)),
        nesterov=nesterov,
        maximize=draw(st.booleans()),
        schedule=draw(st.none() | simple),
        decay_biases=draw(st.booleans()),
    )
    return dataclasses.replace(sgd, **{clip: draw(st.floats(0.001, 2.0))}) if clip else sgd


def trained(side, sgd, dataset, plan, dtype="float64"):
    """Losses, weights and momentum, from two runs: the second begins with what the first left."""
    state = side.start(initial_weights(0), sgd, dtype=dtype, device="cpu")
    data = side.place(state, dataset.train_images, dataset.train_labels)
    state, first = side.run(state, data, plan[:1])
    state, others = side.run(state, data, plan[1:])
    return np.concatenate([first, others]), side.weights(state), side.momentum(state)


def plan_of(steps, batch, size=102):
    return np.random.default_rng(batch).integers(0, size, (steps, batch)).astype(np.int32)


def assert_close(ours, theirs):
    assert loss_differences(ours[0], theirs[0]).max() < BOUND
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        gap = largest_gap(a, b)
        assert gap is None or gap.difference < BOUND, gap


def assert_same_bits(ours, theirs):
    assert ours[0].tobytes() == theirs[0].tobytes()
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert {name: array.tobytes() for name, array in a.items()} == {name: b[name].tobytes() for name in b}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sgd=sgds(), batch=st.sampled_from([1, 3, 4, 7, PIECE["cpu"] + 1]))
@example(sgd=SGD(lr=0.002, dampening=0.3, weight_decay=0.05, decay_biases=False), batch=5)
@example(sgd=SGD(lr=0.002, nesterov=True, maximize=True, weight_decay=0.05, clip_norm=0.5), batch=2)
@example(sgd=SGD(schedule=OneCycleLR(max_lr=0.01, total_steps=60), clip_value=0.01), batch=4)
@example(sgd=SGD(lr=0.002, momentum=0.0, dampening=0.5, schedule=StepLR(step_size=7)), batch=4)
def test_it_trains_as_the_plain_path_does(sgd, batch, small):
    plan = plan_of(50 if batch < LEAST else 6, batch)
    assert_close(trained(torch_impl.fast, sgd, small, plan), trained(torch_impl.eager, sgd, small, plan))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("batch", [8, 40, 200])
def test_a_batch_shared_by_threads_is_the_same_batch_and_repeats_to_the_bit(batch, workers, small):
    plan = plan_of(6, batch)
    with threads(workers):
        once, again = (trained(torch_impl.fast, SGD(), small, plan) for _ in range(2))
        assert torch.get_num_threads() == workers
    assert_same_bits(once, again)
    assert_close(once, trained(torch_impl.eager, SGD(), small, plan))


@pytest.mark.parametrize(
    ("batch", "workers", "expected"),
    [
        (1, 2, (1, 1)),
        (31, 2, (1, 1)),
        (32, 2, (2, 2)),
        (128, 1, (1, 2)),
        (128, 2, (2, 2)),
        (128, 3, (3, 3)),
        (128, 16, (8, 8)),
        (129, 2, (2, 4)),
        (200, 3, (3, 6)),
    ],
)
def test_threads_share_a_batch_in_as_many_pieces_each(batch, workers, expected):
    assert shares(batch, workers=workers, most=64) == expected


def test_the_bound_catches_small_faults(small):
    plan = plan_of(10, 4)
    honest = trained(torch_impl.eager, SGD(), small, plan)
    for wrong in (SGD(lr=0.001 * (1 + 1e-9)), SGD(weight_decay=1e-9), SGD(nesterov=True)):
        with pytest.raises(AssertionError):
            assert_close(trained(torch_impl.fast, wrong, small, plan), honest)


def test_states_that_take_turns_do_not_disturb_each_other(small):
    """They share one working memory."""
    side, plan = torch_impl.fast, plan_of(6, 4)
    alone = trained(side, SGD(), small, plan)
    state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
    data = side.place(state, small.train_images, small.train_labels)
    state, first = side.run(state, data, plan[:1])
    trained(side, SGD(lr=0.1, momentum=0.5), small, plan_of(4, 11))
    state, others = side.run(state, data, plan[1:])
    assert_same_bits((np.concatenate([first, others]), side.weights(state), side.momentum(state)), alone)


def test_a_long_plan_is_the_same_as_several_short_ones(small):
    side, plan = torch_impl.fast, plan_of(2 * BLOCK + 7, 2)
    whole = trained(side, SGD(), small, plan)
    state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
    data, losses = side.place(state, small.train_images, small.train_labels), []
    for part in np.array_split(plan, 5):
        state, piece = side.run(state, data, part)
        losses.append(piece)
    assert_same_bits((np.concatenate(losses), side.weights(state), side.momentum(state)), whole)


def test_a_plan_without_steps_changes_nothing(small):
    side = torch_impl.fast
    state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
    after, losses = side.run(state, side.place(state, small.train_images, small.train_labels), plan_of(0, 4))
    assert losses.shape == (0,)
    for name, value in side.weights(after).items():
        np.testing.assert_array_equal(value, initial_weights(0)[name])


def test_a_plan_without_steps_leaves_no_other_runs_momentum(small):
    """In the shared working memory lies what the run before left."""
    found = []
    for side in (torch_impl.fast, torch_impl.eager):
        trained(side, SGD(), small, plan_of(4, 11))
        state = side.start(initial_weights(0), SGD(dampening=0.5), dtype="float64", device="cpu")
        data = side.place(state, small.train_images, small.train_labels)
        after, none = side.run(state, data, plan_of(0, 4))
        assert none.dtype == np.float64
        assert not any(buffer.any() for buffer in side.momentum(after).values())
        after, losses = side.run(after, data, plan_of(1, 4))
        found.append((losses, side.weights(after), side.momentum(after)))
    assert_close(*found)


def test_two_threads_do_not_disturb_each_other(small):
    """They share one working memory, for which one waits for the other."""
    sgds_, plan, begin = (SGD(), SGD(lr=0.01, momentum=0.5)), plan_of(300, 4), Barrier(2)
    alone = [trained(torch_impl.fast, sgd, small, plan) for sgd in sgds_]

    def beside(sgd):
        begin.wait()
        return trained(torch_impl.fast, sgd, small, plan)

    with ThreadPoolExecutor(2) as pool:
        for found, expected in zip(pool.map(beside, sgds_), alone, strict=True):
            assert_same_bits(found, expected)


@pytest.mark.parametrize("batch", [1, 4, 5])
@pytest.mark.parametrize("pixels", [(0,), (255,), (255, 0)])
def test_gradients_of_flat_images_are_the_plain_paths(pixels, batch):
    """In every pooling window all four are equal but for rounding, so that any may be chosen: it makes no difference.

    The first momentum is the gradient. Its longest sums are of 5 * 28 * 28 products: 3,920 * 1.1e-16 is below BOUND.
    """
    images = np.stack([np.full((32, 32, 3), pixel, np.uint8) for pixel in pixels])
    plan = np.arange(batch, dtype=np.int32)[np.newaxis] % len(images)
    found = []
    for side in (torch_impl.fast, torch_impl.eager):
        state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
        state, losses = side.run(state, side.place(state, images, np.array([3, 8][: len(images)])), plan)
        found.append((losses, side.momentum(state)))
    assert all(gradient.any() for gradient in found[1][1].values())
    assert_close(*found)


def test_it_keeps_the_contract():
    check_implementation(torch_impl.fast)


class PlainReplay(Replay):
    """Without CUDA: a graph's steps, taken one by one, from the same fixed places; it keeps no data alive either."""

    captured = 0

    def __init__(self, train, plan, rates):
        type(self).captured += 1
        self.steps, self.data = partial(train.func, **train.keywords), weakref.ref(*train.args)
        self.plan, self.rates = torch.zeros_like(plan), torch.zeros_like(rates)

    def __call__(self, plan, rates):
        self.plan.copy_(plan)
        self.rates.copy_(rates)
        return self.steps(self.data(), self.plan, self.rates).clone()


class Uncapturable(Replay):
    def __init__(self, train, plan, rates):
        message = "operation not permitted when stream is capturing. Compile with TORCH_USE_CUDA_DSA"
        raise RuntimeError(message)


@pytest.fixture
def in_graphs(monkeypatch):
    """The fast path takes steps in graphs, of a kind that needs no CUDA."""
    working = Program(torch.float64, CPU)
    monkeypatch.setattr(PlainReplay, "captured", 0)
    monkeypatch.setattr("torch_impl.program.Replay", PlainReplay)
    monkeypatch.setattr("torch_impl.program.replays", lambda _: True)
    monkeypatch.setattr("torch_impl.fast_implementation.program", lambda *_, **__: working)
    return working


SCHEDULED = SGD(lr=0.002, dampening=0.3, weight_decay=0.05, schedule=StepLR(step_size=7))
CYCLED = SGD(lr=0.002, nesterov=True, schedule=OneCycleLR(max_lr=0.01, total_steps=60))
PLAINEST = SGD(lr=0.002, momentum=0.0, schedule=StepLR(step_size=3))


@pytest.mark.parametrize("sgd", [SGD(), SCHEDULED, CYCLED, PLAINEST])
@pytest.mark.parametrize("steps", [1, 2, STEPS, STEPS + 1, 3 * STEPS, 3 * STEPS + 4])
def test_steps_in_graphs_are_the_plans_steps(steps, sgd, small, in_graphs):
    """All but the graphs themselves, which tests/test_cuda.py runs where there is a GPU.

    Rates that change from step to step are read anew by each: a graph that kept its own would repeat the first ones.
    """
    plan = plan_of(steps, 3)
    assert_close(trained(torch_impl.fast, sgd, small, plan), trained(torch_impl.eager, sgd, small, plan))
    assert PlainReplay.captured == (steps - 1 > STEPS)


def test_the_same_steps_round_alike_in_whatever_chunks_they_are_taken(small, in_graphs):
    """In graphs and alone: rates that come as numbers would be rounded once less."""
    side, plan, found = torch_impl.fast, plan_of(50, 3), []
    for parts in (1, 3, 50):
        state = side.start(initial_weights(0), SCHEDULED, dtype="float64", device="cpu")
        data = side.place(state, small.train_images, small.train_labels)
        for part in np.array_split(plan, parts):
            state, _ = side.run(state, data, part)
        found.append((np.empty(0), side.weights(state), side.momentum(state)))
    assert PlainReplay.captured == 2
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


def test_where_nothing_can_be_captured_the_steps_are_launched_one_by_one(small, in_graphs, monkeypatch):
    expected = trained(torch_impl.fast, SGD(), small, plan_of(3 * STEPS, 3))
    in_graphs._captured = None
    monkeypatch.setattr("torch_impl.program.Replay", Uncapturable)
    with pytest.warns(UserWarning, match="launched one by one: operation not permitted when stream is capturing$"):
        assert_same_bits(trained(torch_impl.fast, SGD(), small, plan_of(3 * STEPS, 3)), expected)
    assert in_graphs.graphs == "no CUDA graphs (operation not permitted when stream is capturing)"
    # It is said once.
    assert_same_bits(trained(torch_impl.fast, SGD(), small, plan_of(3 * STEPS, 3)), expected)


def runs_of_whole_graphs(dataset):
    """From a fresh state and on from there, from a fresh state again, and on other data, which take the old's place."""
    side, plan, found = torch_impl.fast, plan_of(2 * STEPS, 3), []

    def run(state, data):
        state, losses = side.run(state, data, plan)
        found.append((losses, side.weights(state), side.momentum(state)))
        return state

    # Dampening: a first step in a graph, of steps that are none's first, would be another step.
    fresh = side.start(initial_weights(0), SGD(dampening=0.5), dtype="float64", device="cpu")
    data = side.place(fresh, dataset.train_images, dataset.train_labels)
    run(run(fresh, data), data)
    run(fresh, data)
    captured = PlainReplay.captured
    del data
    run(fresh, side.place(fresh, dataset.train_images[::-1].copy(), dataset.train_labels))
    return found, captured


def test_a_graph_serves_later_runs_on_its_data_alone(small, request):
    expected, _ = runs_of_whole_graphs(small)
    request.getfixturevalue("in_graphs")
    found, captured = runs_of_whole_graphs(small)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)
    assert (captured, PlainReplay.captured) == (1, 2)


@pytest.mark.usefixtures("in_graphs")
def test_a_graph_keeps_the_data_that_it_reads(small):
    """Freed, its memory might hold other data, at the same address, when the next run asks for a graph."""
    side = torch_impl.fast
    state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
    data = side.place(state, small.train_images, small.train_labels)
    address = data.images.data_ptr()
    side.run(state, data, plan_of(2 * STEPS, 3))
    del data
    others = [side.place(state, small.train_images, small.train_labels) for _ in range(20)]
    assert address not in [other.images.data_ptr() for other in others]


def test_where_it_takes_graphs_it_says_so(monkeypatch, request):
    state = torch_impl.fast.start(initial_weights(0), SCHEDULED, dtype="float64", device="cpu")
    assert torch_impl.fast.describe(state).endswith("by hand, CPU")
    request.getfixturevalue("in_graphs")
    assert torch_impl.fast.describe(state).endswith("by hand, CUDA graphs, CPU")


def test_a_capture_minds_its_own_thread_alone(monkeypatch):
    """The other side may call CUDA from a thread of its own meanwhile."""
    asked = []

    @contextmanager
    def graph(_, **arguments):
        asked.append(arguments)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    Replay(lambda _plan, _rates: torch.zeros(STEPS), torch.zeros(STEPS, 3, dtype=torch.int64), torch.zeros(2, STEPS))
    assert asked == [{"capture_error_mode": "thread_local"}]


def test_a_graph_of_full_products_serves_no_run_in_tf32():
    """It keeps the kind of its capture."""
    full, coarse = (program(torch.float64, CPU, tf32=tf32) for tf32 in (False, True))
    assert full is not coarse
    assert full is program(torch.float64, CPU, tf32=False)


def test_there_is_nothing_to_compile():
    with pytest.raises(TypeError, match="compiled"):
        torch_impl.FastTorch(compiled=True)


def test_memory_is_kept_for_the_sizes_used_last():
    working, table = Program(torch.float64, CPU), torch.zeros(4, 3072, dtype=torch.uint8)
    data, training = Pixels(table, torch.zeros(4, dtype=torch.int64)), Training(sgd=SGD(), first=True, workers=1)
    for size in range(1, PASSES + 3):
        working.train(data, torch.zeros(1, size, dtype=torch.int64), [Rates(lr=0.0, momentum=0.9)], training)
    (lane,) = working._lanes
    assert list(lane.passes) == list(range(3, PASSES + 3))


def test_a_batch_is_shared_by_threads_once_each_has_enough_of_it():
    working, table = Program(torch.float64, CPU), torch.zeros(4, 3072, dtype=torch.uint8)
    data, training = Pixels(table, torch.zeros(4, dtype=torch.int64)), Training(sgd=SGD(), first=True, workers=2)
    for size, lanes in ((2 * LEAST - 1, 1), (2 * LEAST, 2)):
        working.train(data, torch.zeros(1, size, dtype=torch.int64), [Rates(lr=0.0, momentum=0.9)], training)
        assert len(working._lanes) == lanes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay_biases", [True, False])
@torch.no_grad()
def test_the_same_gradients_give_the_same_weights(decay_biases, dtype):
    sgd = SGD(lr=0.1, dampening=0.3, weight_decay=0.05, decay_biases=decay_biases)
    named = {
        name: torch.nn.Parameter(tensor)
        for name, tensor in from_canonical(initial_weights(0), dtype=dtype, device=CPU).items()
    }
    optimizer = make_optimizer(named.values(), sgd)
    flat, gradient, buffer = (Flat(dtype=dtype, device=CPU) for _ in range(3))
    flat.load(named)
    for step in range(3):
        for name, value in initial_weights(1 + step).items():
            named[name].grad = torch.tensor(value, dtype=dtype)
        gradient.load({name: parameter.grad for name, parameter in named.items()})
        optimizer.step()
        update(
            flat.vector,
            gradient.vector,
            buffer.vector,
            sgd=sgd,
            rates=Rates(lr=sgd.lr, momentum=sgd.momentum),
            is_decayed=decayed(dtype=dtype, device=CPU),
            first=step == 0,
        )
    for name, tensor in flat.tensors.items():
        assert torch.equal(tensor, named[name]), name


def test_the_vector_holds_every_parameter_once():
    flat = Flat(dtype=torch.float64, device=CPU)
    assert flat.vector.shape == (62_006,)
    assert {name: tuple(tensor.shape) for name, tensor in flat.tensors.items()} == dict(CNN_PARAMETERS)
    tensors = from_canonical(initial_weights(3), dtype=torch.float64, device=CPU)
    flat.load(tensors)
    for name, copied in flat.copies().items():
        assert copied.is_contiguous()
        assert torch.equal(copied, tensors[name])
    for tensor in flat.tensors.values():
        tensor.add_(1000)
    assert flat.vector.min() > 900


def test_biases_are_what_is_not_decayed():
    mask = decayed(dtype=torch.float64, device=CPU)
    biases = sum(shape[0] for shape in CNN_PARAMETERS.values() if len(shape) == 1)
    assert (mask == 0).sum() == biases
    assert (mask == 1).sum() == len(mask) - biases
