"""Compiling ahead: a check says what it will call, and what was compiled in the background is not compiled again."""

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import jax
import numpy as np
import pytest

import jax_impl
from jax_impl import compile_ahead
from jax_impl.compile_ahead import in_background
from jax_impl.observe import observed_step
from parity.checking import check
from parity.contract import SGD, CompiledAhead, SideError, initial_weights
from parity.lane import Lane
from parity.problem import cnn_problem
from parity.settings import Settings, Side

SETTINGS = Settings(device="cpu")
PROGRAMS = {"jit(observed_step)", "jit(train_steps)", "jit(evaluate)"}
WAIT = 60  # seconds, after which a test would fail instead of hanging


class Recording:
    """A side that notes what it is told to compile, and what it is then asked for, by dtype."""

    def __init__(self, inner):
        self.inner = inner
        self.told, self.asked, self.inside = {}, {}, False

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def asks(self, state, call):
        assert self.inside
        self.asked.setdefault(state.dtype, set()).add(call)

    @contextmanager
    def compile_ahead(self, state, train, test, *, observed, plans):
        calls = [*(("observe", size) for size in observed), *(("run", *shape) for shape in plans)]
        self.told[state.dtype] = [*calls, *([("logits", len(test.labels))] if test else [])]
        self.inside = True
        yield
        self.inside = False

    def observe(self, state, data, rows):
        self.asks(state, ("observe", len(rows)))
        return self.inner.observe(state, data, rows)

    def run(self, state, data, plan):
        self.asks(state, ("run", *plan.shape))
        return self.inner.run(state, data, plan)

    def logits(self, state, data):
        self.asks(state, ("logits", len(data.labels)))
        return self.inner.logits(state, data)


def test_a_check_says_ahead_what_it_will_call(small):
    side = Recording(jax_impl.impl)
    sides = (Side(name="a", implementation=side), Side(name="b", implementation=jax_impl.impl))
    assert check(sides, cnn_problem(small, initial_weights(0)), SETTINGS).finding is None
    assert side.told.keys() == {"float64", "float32"}
    for dtype, calls in side.told.items():
        assert len(set(calls)) == len(calls)
        # In float32 both precisions are asked for: a float64 step from the float32 step's weights.
        assert set(calls) == side.asked[dtype]


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

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


def test_what_is_compiled_ahead_is_not_compiled_again(placed, compilations):
    state, train, test = placed
    rows, plan = np.arange(3, dtype=np.int32), np.arange(10, dtype=np.int32).reshape(2, 5)
    assert isinstance(jax_impl.impl, CompiledAhead)
    with jax_impl.impl.compile_ahead(state, train, test, observed=[3], plans=[(2, 5)]):
        _, trace = jax_impl.impl.observe(state, train, rows)
        _, losses = jax_impl.impl.run(state, train, plan)
        logits = jax_impl.impl.logits(state, test)
    assert len(compilations) == 3
    # ... and the results are those of the calls, not of what was computed in the background.
    assert np.array_equal(trace.loss["loss"], jax_impl.impl.observe(state, train, rows)[1].loss["loss"])
    assert np.array_equal(losses, jax_impl.impl.run(state, train, plan)[1])
    assert np.array_equal(logits, jax_impl.impl.logits(state, test))
    assert len(compilations) == 3


def test_it_compiles_while_the_caller_waits_for_nothing(placed, compilations):
    state, train, test = placed
    with jax_impl.impl.compile_ahead(state, train, test, observed=[3], plans=[(2, 5)]):
        until = time.monotonic() + WAIT
        while len(compilations) < 3 and time.monotonic() < until:
            time.sleep(0.05)
    assert set(compilations) == PROGRAMS


def test_a_step_is_compiled_once_for_data_sets_of_all_sizes(placed, small):
    state, train, _ = placed
    other = jax_impl.impl.place(state, small.train_images[:9], small.train_labels[:9])
    rows = np.arange(6, dtype=np.int32)
    jax_impl.impl.observe(state, train, rows)
    size = observed_step._cache_size()
    jax_impl.impl.observe(state, other, rows)
    assert observed_step._cache_size() == size


def test_what_has_not_begun_is_dropped_at_the_end_of_the_block(monkeypatch):
    monkeypatch.setattr(compile_ahead, "available_cores", lambda: 1)
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def first():
        begun.set()
        go_on.wait(WAIT)
        calls.append("first")

    before = set(threading.enumerate())
    with in_background([first, lambda: calls.append("second")]):
        assert begun.wait(WAIT)
        (worker,) = set(threading.enumerate()) - before
    go_on.set()
    worker.join(WAIT)
    assert calls == ["first"]


def test_what_one_call_raises_is_left_to_the_call_itself(monkeypatch):
    monkeypatch.setattr(compile_ahead, "available_cores", lambda: 1)
    done = threading.Event()

    def wrong():
        raise ValueError("what the call itself will raise again")

    with in_background([wrong, done.set]):
        assert done.wait(WAIT)


class AnswersNothing(Recording):
    def compile_ahead(self, state, train, test, **_):
        return None


class Refuses(Recording):
    def compile_ahead(self, state, train, test, **_):
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("side", "problem"),
    [
        (AnswersNothing(jax_impl.impl), r"compile_ahead\(\) returned NoneType, not a context manager"),
        (Refuses(jax_impl.impl), r"compile_ahead\(\) raised RuntimeError: not today"),
    ],
)
def test_a_side_that_breaks_the_protocol_is_named(side, problem, small):
    lane = Lane(side=Side(name="mine", implementation=side))
    state = lane.start(cnn_problem(small, initial_weights(0)), SETTINGS, "cpu")
    with pytest.raises(SideError, match=f"mine: {problem}"):
        lane.compile_ahead(state, observed=[4], plans=[], evaluated=True)


def test_torch_imports_its_compiler_in_the_first_step_and_not_at_the_start():
    """It takes seconds, in which the other side's programs may be compiled."""
    code = """
import json, sys
import numpy as np
import torch_impl
from parity.contract import SGD, initial_weights
state = torch_impl.impl.start(initial_weights(0), SGD(), dtype="float64", device="cpu")
data = torch_impl.impl.place(state, np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int64))
before = "torch._dynamo" in sys.modules
torch_impl.impl.observe(state, data, np.arange(4, dtype=np.int32))
print(json.dumps([before, "torch._dynamo" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True]
