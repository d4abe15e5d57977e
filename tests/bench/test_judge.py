"""Honest programs pass in both precisions, at any batch size; others do not."""

import numpy as np
import pytest

from parity.bench.judge import judge, judge_call, judge_steps, worst
from parity.bench.truth import probe, true_run
from parity.contract import SGD, initial_weights
from parity.registry import resolve
from tests.bench import contestants

WEIGHTS = initial_weights(0)
SIZES = (1, 100)


@pytest.fixture(scope="module", params=SIZES)
def truth(request, small):
    return true_run(WEIGHTS, SGD(), small.train_images, small.train_labels, batch_size=request.param, seed=0)


def judged(contestant, truth, data, dtype):
    state = contestant.start(WEIGHTS, SGD(), dtype=dtype, device="cpu")
    placed = contestant.place(state, data.train_images, data.train_labels)
    after, losses = contestant.run(state, placed, truth.plan)
    return judge(truth, dtype, losses, contestant.weights(after))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["torch_impl:eager", "jax_impl"])
def test_the_twins_pass(name, dtype, truth, small):
    found = judged(resolve(name), truth, small, dtype)
    assert found.passed, found.line


@pytest.mark.parametrize("name", ["faster", "idle", "not_finite", "too_few", "other_tensors"])
def test_what_computes_something_else_does_not(name, truth, small):
    assert not judged(getattr(contestants, name), truth, small, "float64").passed


def test_a_sum_where_a_mean_is_meant_does_not(truth, small):
    passed = judged(contestants.unaveraged, truth, small, "float64").passed
    assert passed == (truth.plan.shape[1] == 1)  # of one image they are the same


def test_a_percent_of_the_learning_rate_shows_in_float32(truth, small):
    impl, sgd = resolve("torch_impl:eager"), SGD(lr=0.00101)
    state = impl.start(WEIGHTS, sgd, dtype="float32", device="cpu")
    after, losses = impl.run(state, impl.place(state, small.train_images, small.train_labels), truth.plan)
    found = judge(truth, "float32", losses, impl.weights(after))
    assert not found.passed
    assert "differs: " in found.line


def test_half_precision_inside_float32_shows(truth, small):
    """Weights that a program keeps in bfloat16: 2^-9 of each, where float32 rounds by 2^-24."""
    impl = resolve("torch_impl:eager")
    coarse = {name: _bfloat16(value) for name, value in WEIGHTS.items()}
    state = impl.start(coarse, SGD(), dtype="float32", device="cpu")
    after, losses = impl.run(state, impl.place(state, small.train_images, small.train_labels), truth.plan)
    assert not judge(truth, "float32", losses, impl.weights(after)).passed


@pytest.mark.parametrize("name", ["torch_impl:eager", "torch_impl.emulated:tf32"])
def test_in_tf32_the_twins_pass_with_its_products_and_without(name, truth, small):
    """As the CPU emulates them; in float32 they would show."""
    side = resolve(name)
    state = side.start(WEIGHTS, SGD(), dtype="float32", device="cpu")
    placed = side.place(state, small.train_images, small.train_labels)
    after, losses = side.run(state, placed, truth.plan)
    found = judge(truth, "tf32", losses, side.weights(after))
    assert found.passed, found.line
    assert judge_call(truth, "tf32", losses, len(losses)).passed
    assert judge(truth, "float32", losses, side.weights(after)).passed == (name == "torch_impl:eager")


def test_a_fifth_of_the_learning_rate_shows_in_tf32(truth, small):
    impl = resolve("torch_impl:eager")
    state = impl.start(WEIGHTS, SGD(lr=0.0012), dtype="float32", device="cpu")
    after, losses = impl.run(state, impl.place(state, small.train_images, small.train_labels), truth.plan)
    found = judge(truth, "tf32", losses, impl.weights(after))
    assert not found.passed
    assert not judge_call(truth, "tf32", 1.01 * losses, len(losses)).passed


def _bfloat16(values):
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def test_a_call_is_judged_by_the_steps_that_it_shares_with_the_truth(truth):
    """Longer and shorter than the truth: in both the shared losses count, in the longer one the others are finite."""
    longer = np.append(truth.losses, [9.0, 9.0])
    for losses in (truth.losses[:3], truth.losses, longer):
        assert judge_call(truth, "float64", losses, len(losses)).passed
        for step in range(min(len(losses), len(truth.losses))):
            assert not judge_call(truth, "float64", _times(losses, step, 1 + 1e-9), len(losses)).passed
    assert not judge_call(truth, "float64", longer[:-1], len(longer)).passed
    endless = _times(longer, -1, np.inf)
    assert judge_call(truth, "float64", endless, len(longer)).line.endswith("inf as the loss of step 21")


@pytest.mark.parametrize("sgd", [SGD(), SGD(lr=0.01, momentum=0.5, nesterov=True, weight_decay=0.1)])
@pytest.mark.parametrize(("name", "passed"), [("honest", True), ("faster", False), ("idle", False)])
def test_two_steps_from_a_later_state_are_judged_without_its_momentum(name, passed, sgd, truth, small):
    """The state has one, after two steps."""
    contestant = getattr(contestants, name)
    state = contestant.start(WEIGHTS, sgd, dtype="float64", device="cpu")
    data = contestant.place(state, small.train_images, small.train_labels)
    state, _ = contestants.honest.run(state, data, truth.plan[:2])
    arguments = {"batch_size": truth.plan.shape[1], "seed": 0}
    weights, arrays = contestant.weights(state), (small.train_images, small.train_labels)
    pair = [probe(weights, *arrays, number=number, **arguments) for number in (0, 1)]
    ran = []
    for each in pair:
        after, losses = contestant.run(state, data, each.rows[None])
        ran.append((losses, contestant.weights(after)))
    found = worst(judge_steps(pair, ran, sgd, "float64", steps=2))
    assert found.passed is passed, found.line
    other = [(losses * (1 + 1e-9), moved) for losses, moved in ran]
    assert worst(judge_steps(pair, other, sgd, "float64", steps=2)).passed is False


def test_the_first_steps_of_a_truth_are_a_truth(truth, small):
    few = truth.first(3)
    assert judged(contestants.honest, few, small, "float64").passed
    assert not judged(contestants.idle, few, small, "float64").passed


def _times(losses, step, factor):
    changed = losses.copy()
    changed[step] *= factor
    return changed


def test_the_reason_is_a_line(truth, small):
    assert "not a number" not in judged(contestants.not_finite, truth, small, "float64").line
    assert "loss differs: inf" in judged(contestants.not_finite, truth, small, "float64").line
    assert "losses of shape (19,), not (20,)" in judged(contestants.too_few, truth, small, "float64").line
    assert "weights() has other tensors: conv1.bias" in judged(contestants.other_tensors, truth, small, "float64").line
