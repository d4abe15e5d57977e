import numpy as np
import pytest

from parity.contract import SGD, CosineAnnealingLR, InputError, SequentialLR, SideError, initial_weights
from parity.data import Dataset
from parity.running import lockstep
from parity.running.lockstep import CHUNK, train, window_ends
from parity.settings import Settings, Side, resolve_device
from tests import fakes
from tests.conftest import small_arrays

WEIGHTS = initial_weights(0)


def sides(*implementations):
    return [Side(name=f"side {number}", implementation=found) for number, found in enumerate(implementations)]


class Recorder:
    def __init__(self):
        self.events = []

    def started(self, descriptions):
        self.events.append(("started", len(descriptions)))

    def window(self, window):
        self.events.append(("window", window.epoch, window.step))

    def epoch(self, result):
        self.events.append(("epoch", result.epoch))


def test_all_sides_see_the_same_batches(small):
    run = train(sides(fakes.honest, fakes.honest, fakes.honest), small, Settings(epochs=2), WEIGHTS)
    assert run.steps == 52
    for side in run.sides[1:]:
        np.testing.assert_array_equal(side.losses, run.sides[0].losses)
        np.testing.assert_array_equal(side.logits, run.sides[0].logits)
    assert [gap.parameters.difference for gap in run.gaps] == [0] * len(run.gaps)


def test_the_losses_do_not_depend_on_how_the_steps_are_cut(small):
    """One plan after the other, without the driver."""
    from parity.data import Loader

    run = train(sides(fakes.honest), small, Settings(epochs=2), WEIGHTS)
    state = fakes.honest.start(WEIGHTS, Settings().sgd, dtype="float32", device="cpu")
    data = fakes.honest.place(state, small.train_images, small.train_labels)
    losses = []
    for epoch in range(2):
        for images, _ in Loader(size=102, batch_size=4, seed=0).batches(small.train_images, small.train_labels, epoch):
            assert len(images) in {4, 2}
        for plan in Loader(size=102, batch_size=4, seed=0).plans(epoch):
            state, piece = fakes.honest.run(state, data, plan)
            losses.append(piece)
    np.testing.assert_array_equal(run.sides[0].losses, np.concatenate(losses))


def test_states_are_compared_after_every_chunk(small):
    run = train(sides(fakes.honest, fakes.wrong_lr), small, Settings(epochs=3), WEIGHTS)
    assert [gap.steps for gap in run.gaps] == [25, 26, 51, 52, 77, 78]
    assert all(gap.parameters.difference > 0 for gap in run.gaps)


def test_steps_end_the_run_where_asked(small):
    run = train(sides(fakes.honest), small, Settings(epochs=3, steps=30), WEIGHTS)
    assert run.steps == 30
    assert len(run.epochs) == 1
    assert run.sides[0].logits is not None


def test_the_watcher_is_told_in_order(small):
    recorder = Recorder()
    run = train(sides(fakes.honest), small, Settings(epochs=2, batch_size=51), WEIGHTS, watcher=recorder)
    expected = [("started", 1)]
    for epoch in (1, 2):
        expected += [("window", epoch, 1), ("window", epoch, 2), ("epoch", epoch)]
    assert recorder.events == expected
    np.testing.assert_array_equal([w.losses[0] for w in run.windows], run.sides[0].losses)


def test_windows_are_means_over_their_own_steps(small):
    run = train(sides(fakes.honest), small, Settings(epochs=2), WEIGHTS)
    ends = window_ends(26)
    assert len(run.windows) == 2 * len(ends)
    second = run.windows[len(ends) + 1]
    assert (second.epoch, second.step) == (2, ends[1])
    mine = run.sides[0].losses[26 + ends[0] : 26 + ends[1]].astype(float)
    assert second.losses == (mine.mean(),)
    assert second.largest_gap is None


def test_a_window_reports_the_largest_gap_of_its_steps_not_the_gap_of_the_means(small):
    class Seesaw(fakes.Fake):
        def run(self, state, data, plan):
            state, losses = super().run(state, data, plan)
            return state, losses + np.where(np.arange(len(losses)) % 2, 0.1, -0.1)

    settings = Settings(epochs=1, steps=24, dtype="float64")
    run = train(sides(fakes.honest, Seesaw()), small, settings, WEIGHTS)
    for window in run.windows:
        assert window.largest_gap is not None
        assert window.largest_gap > 0.03


def test_window_ends():
    assert window_ends(12_500) == (2000, 4000, 6000, 8000, 10_000, 12_000)
    assert window_ends(2_500) == tuple(range(250, 2501, 250))
    assert window_ends(26) == (2, 5, 7, 10, 13, 15, 18, 20, 23, 26)
    assert window_ends(3) == (1, 2, 3)


def test_a_loss_that_is_not_finite_stops_with_side_and_step(small):
    run = train(sides(fakes.honest, fakes.turns_nan), small, Settings(), WEIGHTS)
    assert str(run.failure).startswith("side 1: the loss of step 7 is nan")
    assert run.failure is not None
    assert run.failure.exit_code == 1
    assert run.steps == 0  # the chunk that broke is not kept
    assert run.sides[0].logits is None
    both = train(sides(fakes.turns_nan, fakes.turns_nan), small, Settings(), WEIGHTS)
    assert str(both.failure).startswith("side 0 and side 1: the loss of step 7 is nan")


@pytest.mark.parametrize("order", [1, -1])
def test_the_side_that_breaks_first_is_named(small, order):
    pair = [fakes.Fake(nan_at=9), fakes.Fake(nan_at=8)][::order]
    run = train(sides(*pair), small, Settings(), WEIGHTS)
    assert str(run.failure).startswith(f"side {pair.index(fakes.Fake(nan_at=8))}: the loss of step 8 is nan")


def test_ctrl_c_keeps_the_last_complete_chunk_of_every_side(small):
    run = train(sides(fakes.honest, fakes.interrupted), small, Settings(), WEIGHTS)
    assert run.interrupted
    assert run.steps == 52
    assert [len(side.losses) for side in run.sides] == [52, 52]
    np.testing.assert_array_equal(run.sides[0].weights["fc3.bias"], run.sides[1].weights["fc3.bias"])


def test_auto_is_cuda_only_where_every_side_has_it():
    assert resolve_device(sides(fakes.with_cuda, fakes.with_cuda), "auto") == "cuda"
    assert resolve_device(sides(fakes.with_cuda, fakes.honest), "auto") == "cpu"
    assert resolve_device(sides(fakes.with_cuda), "cuda") == "cuda"
    with pytest.raises(InputError, match="device cuda: side 1 has no such device here; use cpu"):
        resolve_device(sides(fakes.with_cuda, fakes.honest), "cuda")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"batch_size": 0}, "batch_size 0: it is less than 1"),
        ({"epochs": 0}, "epochs 0: it is less than 1"),
        ({"steps": 0}, "steps 0: it is less than 1"),
        ({"seed": -1}, "seed -1: it is negative"),
        ({"dtype": "float16"}, "dtype float16: unknown; give one of: float32, float64"),
        ({"device": "tpu"}, "device tpu: unknown; give one of: auto, cpu, cuda"),
        ({"sgd": SGD(weight_decay=1e39)}, r"weight_decay 1e\+39: float32 cannot hold it"),
        ({"sgd": SGD(clip_norm=1e39)}, r"clip_norm 1e\+39: float32 cannot hold it"),
        (
            {"sgd": SGD(schedule=SequentialLR(schedules=(CosineAnnealingLR(T_max=3, eta_min=1e39),), milestones=()))},
            r"eta_min 1e\+39: float32 cannot hold it",
        ),
    ],
)
def test_settings_refuse(arguments, problem):
    with pytest.raises(InputError, match=problem):
        Settings(**arguments)


def test_refuses_a_batch_larger_than_the_set(small):
    with pytest.raises(InputError, match="batch_size 103: the training set has 102 images"):
        train(sides(fakes.honest), small, Settings(batch_size=103), WEIGHTS)


def test_chunks_divide_the_tutorials_epoch():
    """So that a whole epoch runs through one compiled shape."""
    assert 12_500 % CHUNK == 0


class OtherTensors(fakes.Fake):
    def weights(self, state):
        return {"fc3.bias": state.bias}

    def momentum(self, state):
        return {}


class TooFewLosses(fakes.Fake):
    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan)
        return state, losses[:-1]


def test_refuses_sides_with_other_tensors(small):
    with pytest.raises(InputError, match=r"tensor fc3.weight is \(10, 3\) in side 0 and missing in side 1"):
        train(sides(fakes.honest, OtherTensors()), small, Settings(), WEIGHTS)


def test_a_side_that_returns_too_few_losses_is_an_error(small):
    with pytest.raises(SideError, match=r"side 1: run\(\) returned shape \(24,\), not \(25,\)"):
        train(sides(fakes.honest, TooFewLosses()), small, Settings(), WEIGHTS)


def test_states_are_compared_where_the_judged_steps_end():
    """130 steps an epoch: chunks of 50 would pass 200 by."""
    dataset = Dataset(name="130 steps", origin="random images for tests", **small_arrays(train=260))
    run = train(sides(fakes.honest, fakes.honest), dataset, Settings(batch_size=2, epochs=2), WEIGHTS)
    assert [gap.steps for gap in run.gaps] == [50, 100, 130, 180, 200, 230, 260]
    assert run.steps == 260


def test_outputs_that_are_not_finite_are_a_failure_although_every_loss_was(small):
    run = train(sides(fakes.honest, fakes.infinite_logits), small, Settings(epochs=1), WEIGHTS)
    assert str(run.failure).startswith("side 1: the outputs after 26 steps are not finite")
    assert run.sides[0].logits is None
    both = train(sides(fakes.infinite_logits, fakes.infinite_logits), small, Settings(epochs=1), WEIGHTS)
    assert str(both.failure).startswith("side 0 and side 1: the outputs after 26 steps are not finite")


class NotAPair(fakes.Fake):
    def run(self, state, data, plan):
        return state


class WeightsAsLists(fakes.Fake):
    def weights(self, state):
        return {name: value.tolist() for name, value in super().weights(state).items()}


class WeightsAsArray(fakes.Fake):
    def weights(self, state):
        return state.weight


class MomentumChanges(fakes.Fake):
    def momentum(self, state):
        return {} if state.buffers is None else {"other": state.bias}


@pytest.mark.parametrize(
    ("side", "problem"),
    [
        (NotAPair(), r"run\(\) did not return a state and losses"),
        (WeightsAsLists(), r"weights\(\) returned list, not a NumPy array of floats"),
        (WeightsAsArray(), r"weights\(\) returned ndarray, not tensors by name"),
        (MomentumChanges(), r"momentum\(\) returned other tensors than weights\(\) at the start"),
    ],
)
def test_a_side_that_returns_something_else_is_an_error(small, side, problem):
    with pytest.raises(SideError, match=f"side 1: {problem}"):
        train(sides(fakes.honest, side), small, Settings(), WEIGHTS)


def test_ctrl_c_between_two_sides_leaves_them_together(small, monkeypatch):
    """Between the moment one side's losses are kept and the other's."""
    real = lockstep._Progress._require_finite

    def interrupt_later(progress, losses):
        real(progress, losses)
        if progress.position.steps == 26:
            progress.lanes[0].pieces.append(losses[0])
            raise KeyboardInterrupt

    monkeypatch.setattr(lockstep._Progress, "_require_finite", interrupt_later)
    run = train(sides(fakes.honest, fakes.honest), small, Settings(epochs=2), WEIGHTS)
    assert run.interrupted
    assert [len(side.losses) for side in run.sides] == [26, 26]


class Overflows(fakes.Fake):
    def describe(self, state):
        raise OverflowError("deep inside")


def test_whatever_a_side_raises_is_its_own_error(small):
    with pytest.raises(SideError, match=r"side 0: describe\(\) raised OverflowError: deep inside") as error:
        train(sides(Overflows()), small, Settings(), WEIGHTS)
    assert isinstance(error.value.__cause__, OverflowError)
