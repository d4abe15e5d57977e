"""Compiling ahead: a check says what it will call, and what was compiled in the background is not compiled again."""

import subprocess
import sys
import threading
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

import jax_impl
import torch_impl
from jax_impl import compile_ahead
from jax_impl.compile_ahead import in_background
from jax_impl.observe import observed_step
from parity import oracle
from parity.checking import check, double
from parity.contract import SGD, CompiledAhead, InputError, SideError, initial_weights
from parity.drill.updating import Configured
from parity.drill.wrapped import Wrapped
from parity.lane import Calls
from parity.pair import start_pair
from parity.problem import cnn_problem
from parity.settings import Settings, Side

SETTINGS = Settings(device="cpu")
EXACT = Settings(device="cpu", dtype="float64")
PROGRAMS = {"jit(observed_step)", "jit(train_steps)", "jit(evaluate)"}
WAIT = 60  # seconds, after which a test would fail instead of hanging


def dtype(state):
    return getattr(state, "dtype", "float64")  # the oracle's states have no other


class Recording:
    """A side that notes what it is told to compile, and what it is then asked for, by dtype."""

    def __init__(self, inner):
        self.inner = inner
        self.told, self.asked, self.stops = {}, {}, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def compile_ahead(self, state, train, test, *, observed, plans):
        calls = [*(("observe", size) for size in observed), *(("run", *shape) for shape in plans)]
        self.told[dtype(state)] = [*calls, *([("logits", len(test.labels))] if test else [])]
        return self.stop

    def stop(self):
        self.stops += 1

    def asks(self, state, call):
        assert self.stops < len(self.told), "what is compiled ahead was dropped too early"
        self.asked.setdefault(dtype(state), set()).add(call)

    def observe(self, state, data, rows):
        self.asks(state, ("observe", len(rows)))
        return self.inner.observe(state, data, rows)

    def run(self, state, data, plan):
        self.asks(state, ("run", *plan.shape))
        return self.inner.run(state, data, plan)

    def logits(self, state, data):
        self.asks(state, ("logits", len(data.labels)))
        return self.inner.logits(state, data)


def pair(a, b):
    return Side(name="a", implementation=a), Side(name="b", implementation=b)


# Of steps of 4 examples each, and of an epoch's end among them: 4, 4, 3, 4, 4 and 2.
@pytest.mark.parametrize("images", [100, 11])
def test_a_check_says_ahead_what_it_will_call(images, small):
    few = replace(small, train_images=small.train_images[:images], train_labels=small.train_labels[:images])
    side = Recording(jax_impl.impl)
    assert check(pair(jax_impl.impl, side), cnn_problem(few, initial_weights(0)), SETTINGS).finding is None
    assert side.told.keys() == {"float64", "float32"}
    assert side.stops == 2
    for kind, told in side.told.items():
        assert len(set(told)) == len(told)
        assert set(told) == side.asked[kind]


def test_where_the_sides_part_nothing_more_is_compiled(small, monkeypatch):
    side = Recording(oracle.impl)
    stops = []
    monkeypatch.setattr(double, "explain_steps", lambda *_, **__: stops.append(side.stops))
    wrong = Configured(oracle.impl, lambda sgd: replace(sgd, lr=2 * sgd.lr))
    found = check(pair(wrong, side), cnn_problem(small, initial_weights(0)), SETTINGS)
    assert found.finding.place.stage == "update"
    assert stops == [1]
    assert side.stops == 1


class Timed(Recording):
    """Notes when it is started, and told."""

    def __init__(self, inner, order):
        super().__init__(inner)
        self.order = order

    def start(self, *arguments, **keywords):
        self.order.append("starts")
        return self.inner.start(*arguments, **keywords)

    def compile_ahead(self, *arguments, **keywords):
        self.order.append("compiles")
        return super().compile_ahead(*arguments, **keywords)


class Plain(Wrapped):
    def __init__(self, inner, order):
        super().__init__(inner)
        self.order = order

    def start(self, *arguments, **keywords):
        self.order.append("the other starts")
        return super().start(*arguments, **keywords)


CALLS = Calls(observed=[4], plans=[(1, 4)], evaluated=True)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_side_that_compiles_begins_before_the_other_starts(swapped, small):
    order = []
    sides = [Plain(oracle.impl, order), Timed(oracle.impl, order)]
    problem = cnn_problem(small, initial_weights(0))
    started = start_pair(pair(*(sides[::-1] if swapped else sides)), problem, EXACT, "cpu", calls=CALLS)
    assert order == ["starts", "compiles", "the other starts"]
    assert started.names == ("a", "b")
    assert [lane.side.implementation for lane in started.lanes] == (sides[::-1] if swapped else sides)


def test_what_a_side_compiles_is_dropped_where_the_other_does_not_start(small):
    side = Recording(oracle.impl)
    with pytest.raises(InputError, match="the oracle computes in float64 only"):
        start_pair(pair(torch_impl.eager, side), cnn_problem(small, initial_weights(0)), SETTINGS, "cpu", calls=CALLS)
    assert side.stops == 0
    with pytest.raises(SideError, match="b: start"):
        start_pair(
            pair(side, Unstartable(oracle.impl)), cnn_problem(small, initial_weights(0)), EXACT, "cpu", calls=CALLS
        )
    assert side.stops == 1


class Unstartable(Wrapped):
    def start(self, *_, **__):
        raise RuntimeError("not today")


@pytest.fixture
def placed(small):
    state = jax_impl.impl.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
    train = jax_impl.impl.place(state, small.train_images[:16], small.train_labels[:16])
    return state, train, jax_impl.impl.place(state, small.test_images[:7], small.test_labels[:7])


@pytest.fixture
def compilations():
    """The programs of `train.py` and `observe.py` that have been compiled since."""
    found = []

    def note(event, _, fun_name="", **__):
        if event == "/jax/core/compile/backend_compile_duration" and fun_name in PROGRAMS:
            found.append(fun_name)

    for thread in threading.enumerate():  # of a check before this test, which ended early
        if thread.name.startswith(compile_ahead.THREADS):
            thread.join(WAIT)
    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


def calls(placed):
    state, train, test = placed
    rows, plan = np.arange(3, dtype=np.int32), np.arange(10, dtype=np.int32).reshape(2, 5)
    _, trace = jax_impl.impl.observe(state, train, rows)
    _, losses = jax_impl.impl.run(state, train, plan)
    return trace.loss["loss"], losses, jax_impl.impl.logits(state, test)


@pytest.mark.parametrize("waits", [True, False])
def test_what_is_compiled_ahead_is_not_compiled_again(waits, placed, compilations):
    """Neither where a call comes afterwards, nor where it comes while its program is being compiled."""
    assert isinstance(jax_impl.impl, CompiledAhead)
    stop = jax_impl.impl.compile_ahead(*placed, observed=[3], plans=[(2, 5)])
    until = time.monotonic() + WAIT
    while waits and len(compilations) < len(PROGRAMS) and time.monotonic() < until:
        time.sleep(0.05)
    assert set(compilations) == PROGRAMS or not waits
    computed = calls(placed)
    stop()
    assert sorted(compilations) == sorted(PROGRAMS)
    # ... and the results are those of the calls.
    assert all(np.array_equal(*each) for each in zip(computed, calls(placed), strict=True))


def test_a_step_is_compiled_once_for_data_sets_of_all_sizes(placed, small):
    state, train, _ = placed
    other = jax_impl.impl.place(state, small.train_images[:9], small.train_labels[:9])
    rows = np.arange(6, dtype=np.int32)
    jax_impl.impl.observe(state, train, rows)
    program = observed_step.for_batch(len(rows), "cpu")
    size = program._cache_size()
    assert size > 0
    jax_impl.impl.observe(state, other, rows)
    assert program._cache_size() == size


def test_what_has_not_begun_is_dropped_when_it_is_stopped(monkeypatch):
    monkeypatch.setattr(compile_ahead, "available_cores", lambda: 1)
    begun, go_on, made = threading.Event(), threading.Event(), []

    def first():
        begun.set()
        go_on.wait(WAIT)
        made.append("first")

    before = set(threading.enumerate())
    stop = in_background([first, lambda: made.append("second")])
    assert begun.wait(WAIT)
    (worker,) = set(threading.enumerate()) - before
    stop()
    go_on.set()
    worker.join(WAIT)
    assert made == ["first"]


def test_what_one_call_raises_is_left_to_the_call_itself(monkeypatch):
    monkeypatch.setattr(compile_ahead, "available_cores", lambda: 1)
    done = threading.Event()

    def wrong():
        raise ValueError("what the call itself will raise again")

    stop = in_background([wrong, done.set])
    assert done.wait(WAIT)
    stop()


class AnswersNothing(Recording):
    def compile_ahead(self, state, train, test, **_):
        return None


class Refuses(Recording):
    def compile_ahead(self, state, train, test, **_):
        raise RuntimeError("not today")


class EndsTheProgram(Recording):
    def stop(self):
        sys.exit(0)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (AnswersNothing, r"compile_ahead\(\) returned NoneType, not a function that stops it"),
        (Refuses, r"compile_ahead\(\) raised RuntimeError: not today"),
        (EndsTheProgram, r"compile_ahead\(\) raised SystemExit: 0"),
    ],
)
def test_a_side_that_breaks_the_protocol_is_an_error_and_no_verdict(kind, problem, small):
    with pytest.raises(SideError, match=f"b: {problem}"):
        check(pair(oracle.impl, kind(oracle.impl)), cnn_problem(small, initial_weights(0)), SETTINGS)


class PassesOn:
    """Everything, to a side whose states are not its own."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_side_that_passes_everything_on_is_not_told(small):
    told = Recording(oracle.impl)
    start_pair(pair(oracle.impl, PassesOn(told)), cnn_problem(small, initial_weights(0)), EXACT, "cpu", calls=CALLS)
    assert told.told == {}


@pytest.mark.parametrize("name", ["eager", "fast"])
def test_the_first_steps_are_not_timed_with_torchs_own_imports(name):
    """torch imports its compiler, for seconds, when the first optimizer is made: at the start, not in a step."""
    code = """
import sys
import numpy as np
import torch_impl
from parity.contract import SGD, initial_weights
side = getattr(torch_impl, sys.argv[1])
state = side.start(initial_weights(0), SGD(), dtype="float32", device="cpu")
data = side.place(state, np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int64))
before = set(sys.modules)
side.run(state, data, np.arange(4, dtype=np.int32)[np.newaxis])
print(len([module for module in set(sys.modules) - before if module.startswith("torch")]))
"""
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100, "thousands come with the compiler"
