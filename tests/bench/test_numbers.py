"""The parts that compute: intervals, lengths of rounds, work, floors, lines through times."""

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.bench.contestants import (
    PEERS,
    absent_peers,
    absent_reference,
    chosen_peers,
    missing,
    named,
    with_reference,
)
from parity.bench.growth import Axis, Point, grow, sentence
from parity.bench.interval import LEAST_ROUNDS, Interval, median_interval
from parity.bench.limits import Limits, bandwidth, best_of, cpu, fastest, floor_seconds
from parity.bench.plans import timed_plan
from parity.bench.timing import FED_SECONDS, FED_STEPS, FIXED, LONGEST, orders, round_steps
from parity.bench.trial import Trial
from parity.bench.work import Work, step_work
from parity.contract import CNN_PARAMETERS, InputError, initial_weights
from parity.data import Loader
from parity.oracle.model import Operations, forward

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30)


@given(TIMES)
def test_an_interval_holds_its_median_and_lies_within_the_values(values):
    found = median_interval(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found == median_interval(values)


def test_an_interval_covers_the_true_median_about_as_often_as_it_says():
    """Of 400 draws of 15 exponential times 95 % would be 380; a bootstrapped median is known to fall short a bit."""
    rng = np.random.default_rng(0)
    found = [median_interval(rng.exponential(size=15)) for _ in range(400)]
    covered = sum(interval.low <= math.log(2) <= interval.high for interval in found)
    assert 0.90 * 400 <= covered <= 0.99 * 400


def test_fewer_rounds_than_are_taken_have_no_interval_of_95_percent():
    """Of 2,000 draws; the error of a share of 95 % is half a percent, and of LEAST_ROUNDS it may fall short by 1.2."""
    rng = np.random.default_rng(0)

    def covered(rounds):
        found = [median_interval(rng.exponential(size=rounds)) for _ in range(2000)]
        return np.mean([interval.low <= math.log(2) <= interval.high for interval in found])

    assert covered(2) < 0.6
    assert covered(LEAST_ROUNDS - 2) < 0.8
    assert covered(LEAST_ROUNDS) > 0.92


@pytest.mark.parametrize(
    ("other", "beyond"), [((3, 4), True), ((1.9, 4), False), ((0, 0.5), True), ((0, 9), False), ((1.2, 1.5), False)]
)
def test_intervals_without_a_common_value_are_beyond_each_other(other, beyond):
    one, two = Interval(median=1.5, low=1, high=2), Interval(median=sum(other) / 2, low=other[0], high=other[1])
    assert one.beyond(two) is two.beyond(one) is beyond


@given(st.floats(0, 0.2), st.floats(3e-5, 2.0))
def test_a_round_is_long_enough_and_its_fixed_part_small(fixed, slope):
    def call(steps):
        return fixed + slope * steps

    target = 0.5
    steps = round_steps(call, short=20, short_seconds=call(20), target=target)
    seconds = call(steps)
    assert steps >= 1
    assert seconds >= 0.8 * target
    # Where a longest call cannot make it small, nothing can.
    assert fixed / seconds <= 1.001 * FIXED / 0.8 or seconds >= 0.8 * LONGEST * target
    # The line through two times that are rounded, hence a little more.
    assert seconds <= 1.001 * (LONGEST * target + fixed + slope)


def test_a_disturbed_short_call_does_not_make_a_round_endless():
    """20 steps took a second once, where they take 20 ms."""
    steps = round_steps(lambda steps: 0.001 * steps, short=20, short_seconds=1.0, target=0.5)
    assert 0.001 * steps <= LONGEST * 0.5 + 0.001


def test_a_call_that_was_disturbed_once_makes_no_round_too_short():
    """Every second call takes ten times as long; of the faster ones a round takes half a second."""
    calls = []

    def call(steps):
        calls.append(steps)
        return 0.001 * steps * (10 if len(calls) % 2 else 1)

    steps = round_steps(call, short=20, short_seconds=0.02, target=0.5)
    assert 0.8 * 0.5 <= 0.001 * steps <= LONGEST * 0.5


@pytest.mark.parametrize("slope", [1e-4, 0.002, 0.03, 0.2])
@pytest.mark.parametrize("fed", [False, True])
def test_who_has_workers_has_enough_steps_or_seconds(slope, fed):
    steps = round_steps(lambda steps: slope * steps, short=20, short_seconds=20 * slope, target=0.05, fed=fed)
    assert (steps >= FED_STEPS or slope * steps >= FED_SECONDS) == (fed or slope == 1e-4)
    assert slope * steps <= 1.25 * FED_SECONDS + slope  # and no more than it takes


def test_every_contestant_has_one_turn_in_each_round_in_changing_order():
    found = orders(4, 50, seed=0)
    assert all(sorted(order) == [0, 1, 2, 3] for order in found)
    assert {order[0] for order in found} == {0, 1, 2, 3}
    assert found == orders(4, 50, seed=0) != orders(4, 50, seed=1)


@pytest.mark.parametrize(("size", "batch_size", "steps"), [(102, 4, 3), (102, 4, 80), (7, 7, 3), (100, 64, 5)])
def test_a_plan_has_full_batches_of_as_many_epochs_as_it_needs(size, batch_size, steps):
    plan = timed_plan(Loader(size=size, batch_size=batch_size, seed=0), steps)
    assert plan.shape == (steps, batch_size)
    assert plan.dtype == np.int32
    full = size // batch_size
    for first in range(0, steps, full):
        rows = plan[first : first + full].ravel()
        assert len(set(rows.tolist())) == len(rows)


def test_the_work_is_what_the_layers_multiply():
    """By hand: forward 1,303,440 operations an image; gradients of a quarter of the convolutions' outputs, the winners
    of the pooling, for weights and for inputs, without conv1's."""
    conv1, conv2, linear = 2 * 75 * 6 * 28**2, 2 * 150 * 16 * 10**2, 2 * (400 * 120 + 120 * 84 + 84 * 10)
    assert step_work(1, "float32").operations == conv1 + conv1 / 4 + conv2 + 2 * conv2 / 4 + 3 * linear
    assert step_work(128, "float32").operations == 128 * step_work(1, "float32").operations
    parameters = sum(math.prod(shape) for shape in CNN_PARAMETERS.values())
    assert step_work(4, "float64").bytes == 4 * 8 * parameters + 4 * (32 * 32 * 3 + 4)


def test_twice_the_channels_are_four_times_the_second_convolution():
    wide = {**CNN_PARAMETERS, "conv1.weight": (12, 3, 5, 5), "conv2.weight": (32, 12, 5, 5), "fc1.weight": (120, 800)}
    more = step_work(1, "float32", wide).operations - step_work(1, "float32").operations
    conv1, conv2, fc1 = 2 * 75 * 6 * 28**2, 2 * 150 * 16 * 10**2, 2 * 400 * 120
    assert more == 1.25 * conv1 + 3 * 1.5 * conv2 + 3 * fc1


def test_only_winners_of_the_pooling_have_a_gradient(small):
    """What the floor leaves out is zero in the oracle: three of four places of a convolution's output."""
    weights = {name: value.astype(np.float64) for name, value in initial_weights(0).items()}
    x = forward(Operations(), weights, Operations().normalise(small.train_images[:8]))
    for layer in (1, 2):
        upstream = np.ones_like(x[f"pool{layer}"])
        gradient = Operations().max_pool_backward(upstream, x[f"relu{layer}"])
        assert np.count_nonzero(gradient) == gradient.size / 4


def test_the_floor_is_the_larger_of_two_times():
    limits = Limits(threads=1, operations={"float32": 1e9}, bandwidth=1e8, memory_bandwidth=1e7, latency=1e-6)
    assert floor_seconds(Work(operations=2 * 10**9, bytes=10**8), limits, "float32") == (2.0, "operations")
    assert floor_seconds(Work(operations=10**9, bytes=3 * 10**8), limits, "float32") == (3.0, "bytes")


def test_the_best_of_each_figure_counts():
    one = Limits(threads=2, operations={"float32": 5.0, "float64": 2.0}, bandwidth=9, memory_bandwidth=3, latency=7)
    two = Limits(threads=2, operations={"float32": 4.0, "float64": 3.0}, bandwidth=8, memory_bandwidth=4, latency=6)
    best = Limits(threads=2, operations={"float32": 5.0, "float64": 3.0}, bandwidth=9, memory_bandwidth=4, latency=6)
    assert best_of(one, two) == best_of(two, one) == best


def test_limits_are_measured():
    found = Limits(**cpu(threads=1, dtypes=("float32", "float64")))
    assert found.operations.keys() == {"float32", "float64"}
    assert min(found.operations.values()) > 1e8
    assert found.bandwidth >= found.memory_bandwidth > 1e8
    assert 0 < found.latency < 1


def test_several_threads_copy_at_once(monkeypatch):
    """Each waits for all others inside its first copy: one after the other they would never come together."""
    together, threads, bytes_copied = threading.Barrier(3, timeout=60.0), set(), []

    def copyto(target, source):
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            together.wait()
        bytes_copied.append(len(source))

    monkeypatch.setattr("parity.bench.limits.np.copyto", copyto)
    monkeypatch.setattr("parity.bench.limits.fastest", lambda call, _seconds: call() and 2.0)
    assert bandwidth(3 * 2**24, threads=3) == 2 * sum(bytes_copied) / 2.0
    assert len(threads) == 3


def test_the_fastest_call_counts(monkeypatch):
    """By a clock that says: until 0; calls of 5, 2 and 3 seconds; it is 24."""
    calls, clock = [], iter([0, 0, 5, 10, 12, 20, 23, 24])
    monkeypatch.setattr("parity.bench.limits.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert fastest(lambda: calls.append(0), seconds=0.0) == 2
    assert len(calls) == 3


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_a_line_is_found_again(fixed, slope):
    points = [Point(x=w, work=w, seconds=fixed + slope * w) for w in (1, 4, 16, 64)]
    line = grow(points)
    # nnls solves to rounding of the residuals, each of which is relative to its own time.
    assert line.residual < 1e-9
    for point in points:
        assert line.at(point.work) == pytest.approx(point.seconds, rel=1e-9)


def test_times_that_fall_have_no_slope_and_say_so():
    line = grow([Point(x=w, work=w, seconds=1 / w) for w in (1.0, 2.0, 4.0)])
    assert line.slope == 0
    assert line.residual > 0.3


@pytest.mark.parametrize(
    ("fixed", "slope", "words"),
    [
        (8.0, 1.0, "fixed cost is 89 % of it at 1 and 11 % at 64: the work dominates from 16 on"),
        (0.0, 1.0, "fixed cost is 0 % of it at 1 and 0 % at 64: the work dominates everywhere"),
        (1000.0, 1.0, "the fixed cost dominates everywhere"),
    ],
)
def test_the_sentence_is_made_of_the_numbers(fixed, slope, words):
    points = [Point(x=w, work=w, seconds=fixed + slope * w) for w in (1, 4, 16, 64)]
    text = sentence("torch", Axis(name="images", of="a step", unit="image"), points)
    assert text.startswith("torch: a step takes ")
    assert text.endswith(words)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"batch_sizes": ()}, "batch_sizes"),
        ({"batch_sizes": (4, 0)}, "batch_sizes"),
        ({"dtypes": ("float16",)}, "dtype"),
        ({"device": "tpu"}, "device"),
        ({"threads": 0}, "threads"),
        ({"threads": 10_000}, "threads"),
        ({"rounds": 4}, "rounds"),
        ({"round_seconds": 0.0}, "round_seconds"),
        ({"round_seconds": math.inf}, "round_seconds"),
        ({"round_seconds": math.nan}, "round_seconds"),
        ({"timeout": -1.0}, "timeout"),
        ({"timeout": 3e6}, "timeout"),
        ({"timeout": math.inf}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_trial_refuses_what_is_out_of_range(arguments, argument):
    with pytest.raises(InputError) as caught:
        Trial(**arguments)
    assert caught.value.argument == argument


def test_peers_are_found_by_name(monkeypatch):
    with pytest.raises(InputError, match="there is no such peer; give some of: tutorial, "):
        chosen_peers("nobody")
    monkeypatch.setattr("parity.bench.contestants.missing", lambda key: ("keras",) if "keras" in key else ())
    with pytest.raises(InputError, match=r"keras is not installed; pip install '\.\[bench\]'"):
        chosen_peers("nnx,keras-jax")
    assert [entrant.label for entrant in chosen_peers("nnx, tutorial,nnx")] == ["nnx", "tutorial"]
    assert [entrant.label for entrant in chosen_peers("all")] == [key for key in PEERS if "keras" not in key]


def test_the_reference_step_is_there_once(monkeypatch):
    monkeypatch.setattr("parity.bench.contestants.missing", lambda _key: ())
    labels = [entrant.label for entrant in with_reference(with_reference(named(["torch_impl"])))]
    assert labels == ["torch_impl", "reference"]
    assert [entrant.unasked for entrant in with_reference(named(["torch_impl"]))] == [False, True]
    assert [entrant.label for entrant in chosen_peers("all") if entrant.unasked] == ["reference"]
    assert not chosen_peers("reference")[0].unasked
    monkeypatch.setattr("parity.bench.contestants.missing", lambda _key: ("numba",))
    assert with_reference(named(["torch_impl"])) == named(["torch_impl"])


def test_a_reference_step_that_is_not_installed_is_said_once(monkeypatch):
    line = "reference: left out, numba is not installed: pip install '.[bench]'"
    monkeypatch.setattr("parity.bench.contestants.missing", lambda key: ("numba",) if key == "reference" else ())
    for text in (None, "nnx", "all"):
        assert [*absent_peers(text), *absent_reference(text)] == [line]
    monkeypatch.setattr("parity.bench.contestants.missing", lambda _key: ())
    assert list(absent_reference(None)) == []


def test_what_is_missing_is_found_without_importing_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "numba" else object())
    assert missing("reference") == ("numba",)
    assert missing("nnx") == ()
