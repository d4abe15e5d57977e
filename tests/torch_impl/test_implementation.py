import numpy as np
import pytest
import torch

import torch_impl
from parity.contract import CNN_PARAMETERS, SGD, InputError, initial_weights
from torch_impl.device import exact, threads_for
from torch_impl.layout import from_canonical, images_from_canonical, to_canonical

PLAN = np.arange(20, dtype=np.int32).reshape(5, 4)


SIDES = {"eager": torch_impl.eager, "fast": torch_impl.fast}


@pytest.fixture(params=[(side, dtype) for side in SIDES for dtype in ("float32", "float64")], ids=" ".join)
def started(request, small):
    name, dtype = request.param
    side = SIDES[name]
    state = side.start(initial_weights(0), SGD(), dtype=dtype, device="cpu")
    return side, state, side.place(state, small.train_images, small.train_labels), dtype


def test_every_name_says_how_it_computes():
    paths = {torch_impl.eager: "eager, CPU", torch_impl.compiled: "compiled, CPU", torch_impl.fast: "by hand, CPU"}
    for side, path in paths.items():
        assert side.devices()[-1] == "cpu"
        state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
        assert side.describe(state).endswith(path)
    assert torch_impl.impl is torch_impl.fast


def test_everything_is_in_the_runs_dtype(started):
    side, state, data, dtype = started
    after, losses = side.run(state, data, PLAN)
    assert losses.dtype == dtype
    assert side.logits(after, data).dtype == dtype
    for tensors in (side.weights(after), side.momentum(after)):
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(dtype)}
        assert {name: tensor.shape for name, tensor in tensors.items()} == dict(CNN_PARAMETERS)


def test_a_run_leaves_its_state_and_what_was_read_from_it(started):
    side, state, data, _ = started
    once, _ = side.run(state, data, PLAN)
    weights, momentum = side.weights(once), side.momentum(once)
    kept = {name: value.copy() for name, value in {**weights, **{f"m.{k}": v for k, v in momentum.items()}}.items()}
    twice, losses = side.run(once, data, PLAN)
    again, repeated = side.run(once, data, PLAN)
    for name, value in {**weights, **{f"m.{k}": v for k, v in momentum.items()}}.items():
        np.testing.assert_array_equal(value, kept[name])
    np.testing.assert_array_equal(losses, repeated)
    for name, value in side.weights(twice).items():
        np.testing.assert_array_equal(value, side.weights(again)[name])
        assert not np.array_equal(value, weights[name])


def test_starting_copies_the_weights(small):
    weights = {name: value.astype(np.float64) for name, value in initial_weights(0).items()}
    state = torch_impl.eager.start(weights, SGD(), dtype="float64", device="cpu")
    weights["fc3.bias"][:] = 7
    assert not (torch_impl.eager.weights(state)["fc3.bias"] == 7).any()


def test_what_is_read_from_a_state_is_the_readers_own(small):
    side = torch_impl.eager
    state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
    state, _ = side.run(state, side.place(state, small.train_images, small.train_labels), PLAN)
    for read in (side.weights, side.momentum):
        before = read(state)["fc3.bias"].copy()
        read(state)["fc3.bias"][:] = 7
        np.testing.assert_array_equal(read(state)["fc3.bias"], before)


def test_placing_copies_the_images(small):
    for side in SIDES.values():
        check_that_placing_copies(side, small)


def check_that_placing_copies(side, small):
    state = side.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
    images = small.train_images.copy()
    data = side.place(state, images, small.train_labels)
    before = side.logits(state, data)
    images[:] = 0
    np.testing.assert_array_equal(side.logits(state, data), before)


def test_momentum_is_zeros_at_first_and_nothing_without(small):
    side = torch_impl.eager
    first = side.momentum(side.start(initial_weights(0), SGD(), dtype="float32", device="cpu"))
    assert {name: value.shape for name, value in first.items()} == dict(CNN_PARAMETERS)
    assert not any(value.any() for value in first.values())
    state = side.start(initial_weights(0), SGD(momentum=0.0), dtype="float32", device="cpu")
    after, _ = side.run(state, side.place(state, small.train_images, small.train_labels), PLAN)
    assert side.momentum(state) == side.momentum(after) == {}


def test_refuses_weights_of_another_model():
    with pytest.raises(InputError, match=r"tensor fc3.weight has shape"):
        torch_impl.impl.start(
            {**initial_weights(0), "fc3.weight": np.zeros((84, 10))}, SGD(), dtype="float32", device="cpu"
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_refuses_cuda_where_there_is_none():
    with pytest.raises(InputError, match="device cuda: torch has no such device here; use cpu"):
        torch_impl.impl.start(initial_weights(0), SGD(), dtype="float32", device="cuda")


def test_images_become_channels_first():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = images_from_canonical(images, device=torch.device("cpu"))
    assert tensor.shape == (2, 3, 4, 5)
    assert tensor.is_contiguous()
    assert tensor[1, 2, 3, 4] == images[1, 3, 4, 2]


def test_canonical_tensors_come_back_as_they_were():
    weights = initial_weights(1)
    back = to_canonical(from_canonical(weights, dtype=torch.float32, device=torch.device("cpu")))
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize(("batch_size", "threads"), [(4, 1), (64, 3)])
def test_small_batches_get_one_thread_and_the_callers_setting_returns(batch_size, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with threads_for(batch_size):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def precisions():
    backends = torch.backends
    operations = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    return [operation.fp32_precision for operation in operations]


@pytest.mark.parametrize("setting", ["highest", "medium"])
def test_exact_is_full_float32_and_puts_the_callers_settings_back(setting):
    torch.set_float32_matmul_precision(setting)
    torch.backends.cudnn.benchmark = True
    before = precisions()
    try:
        with exact():
            assert precisions() == ["ieee"] * 4
            # The compiler asks the older way; torch raises where the two contradict each other.
            assert not torch.backends.cuda.matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.backends.cudnn.benchmark
        assert precisions() == before
        assert torch.get_float32_matmul_precision() == setting
        assert torch.backends.cudnn.benchmark
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.benchmark = False


def test_exact_works_where_the_caller_chose_by_operation():
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    conv.fp32_precision = "ieee"
    try:
        with exact():
            assert conv.fp32_precision == "ieee"
        assert conv.fp32_precision == "ieee"
    finally:
        conv.fp32_precision = before


def test_compiling_for_the_cpu_without_a_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr("torch_impl.device.shutil.which", lambda _: None)
    with pytest.raises(InputError, match="no C\\+\\+ compiler.*; install g\\+\\+, or use torch_impl:eager"):
        torch_impl.compiled.start(initial_weights(0), SGD(), dtype="float32", device="cpu")


def test_states_of_one_kind_share_their_compiled_code():
    """torch gives up compiling a function anew after a few times."""
    states = [torch_impl.compiled.start(initial_weights(seed), SGD(), dtype="float32", device="cpu") for seed in (0, 1)]
    assert states[0].bench is states[1].bench
    other = torch_impl.compiled.start(initial_weights(0), SGD(lr=0.5), dtype="float32", device="cpu")
    assert other.bench is not states[0].bench


@pytest.mark.parametrize("side", [torch_impl.fast, torch_impl.eager])
@pytest.mark.parametrize(
    ("images", "line"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), "images float32: pixels are uint8, 0 to 255; give them before"),
        (np.zeros((2, 32, 32, 3), np.int64), "images int64: pixels are uint8"),
        (np.zeros((2, 3, 32, 32), np.uint8), r"images \(2, 3, 32, 32\): their shape is not \(N, 32, 32, 3\); give the"),
    ],
)
def test_refuses_images_that_are_no_pixels(side, images, line):
    """Packed into words, or looked up in a table, they would be others without a word."""
    state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
    with pytest.raises(InputError, match=line):
        side.place(state, images, np.zeros(2, np.int64))
