"""Contestants for tests: the oracle, and the oracle with one thing wrong each. NumPy only: they start at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from parity.oracle import Oracle
from parity.oracle.model import Operations
from parity.oracle.sgd import sgd_update

CHILD = "PARITY_TEST_CHILD"


class Plain:
    """The methods of a contestant and no others."""

    def __init__(self, **operations):
        self.oracle = Oracle(operations=Operations(**operations))

    def devices(self):
        return ("cpu",)

    def start(self, weights, sgd, *, dtype, device):
        return self.oracle.start(weights, sgd, dtype=dtype, device=device)

    def describe(self, state):
        return "the oracle, for tests"

    def place(self, state, *arrays):
        return self.oracle.place(state, *arrays)

    def run(self, state, data, plan):
        return self.oracle.run(state, data, plan)

    def weights(self, state):
        return self.oracle.weights(state)


class Crashes(Plain):
    def run(self, state, data, plan):
        sys.stderr.write("a last word\n")
        sys.stderr.flush()
        os._exit(3)


class CrashesLater(Plain):
    """After its third call: the first that is judged passes."""

    calls = 0

    def run(self, state, data, plan):
        self.calls += 1
        if self.calls > 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().run(state, data, plan)


class Killed(Plain):
    def run(self, state, data, plan):
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Plain):
    """With a child of its own, as a loader has workers; its number is written to the file that CHILD names."""

    def run(self, state, data, plan):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        if CHILD in os.environ:
            Path(os.environ[CHILD]).write_text(str(child.pid))
        time.sleep(600)


class Fed(Plain):
    """With a process beside it, as a loader has workers."""

    child = None

    def run(self, state, data, plan):
        if self.child is None:
            self.child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True)
            self.child.start()
        return super().run(state, data, plan)


class Raises(Plain):
    def run(self, state, data, plan):
        raise RuntimeError("its own\nfault")


class Leaves(Plain):
    def run(self, state, data, plan):
        sys.exit(0)


class TooLarge(Plain):
    def run(self, state, data, plan):
        raise MemoryError(f"for {plan.shape[1]} images")


class NotFinite(Plain):
    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan)
        return state, losses * np.nan


class TooFew(Plain):
    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan)
        return state, losses[1:]


class Unwatched(Plain):
    """Right in the 20 steps that it is judged by; calls of other lengths return something else."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan)
        return state, losses if len(plan) == 20 else self.change(losses)


FEW = 3
"""Steps of the truth that the following are judged by."""


class Stops(Plain):
    """Trains in the first steps of a call, and returns ones for the others."""

    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan[:FEW])
        return state, np.concatenate([losses, np.ones(len(plan) - len(losses))])


class StopsForGood(Plain):
    """Trains for FEW steps in all, however many calls they are in; later losses are honest, but nothing is learnt."""

    def start(self, weights, sgd, *, dtype, device):
        return super().start(weights, sgd, dtype=dtype, device=device), 0

    def describe(self, state):
        return "stops"

    def place(self, state, *arrays):
        return super().place(state[0], *arrays)

    def weights(self, state):
        return super().weights(state[0])

    def run(self, state, data, plan):
        inner, taken = state
        learnt, losses = super().run(inner, data, plan[: FEW - taken]) if taken < FEW else (inner, np.empty(0))
        idle = [super(StopsForGood, self).run(learnt, data, rows[None])[1] for rows in plan[len(losses) :]]
        return (learnt, taken + len(plan)), np.concatenate([losses, *idle])


class StopsLate(Plain):
    """Trains in the first 20 steps of a call, which takes no longer for the others, honest in pieces."""

    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan[:20])
        return state, np.concatenate([losses, np.ones(len(plan) - len(losses))])


class Restless(Plain):
    """Rounds otherwise in every call: as if other weights had been there, by a part of an ulp of float32."""

    calls = 0

    def run(self, state, data, plan):
        self.calls += 1
        state = self.oracle.restore(state, _moved(self.weights(state), self.calls), self.oracle.momentum(state))
        return super().run(state, data, plan)


def _moved(weights, seed):
    rng = np.random.default_rng(seed)
    return {name: value * (1 + 1e-16 * rng.standard_normal(value.shape)) for name, value in weights.items()}


class Tired(Plain):
    """Skips the second half of its calls, from its sixth call of more than FEW steps on; of all calls, or of those."""

    calls = 0

    def __init__(self, *, of_all):
        super().__init__()
        self.of_all = of_all

    def run(self, state, data, plan):
        self.calls += len(plan) > FEW
        whole, losses = super().run(state, data, plan)
        skips = self.calls >= 6 and (self.of_all or len(plan) > FEW)
        return (super().run(state, data, plan[: len(plan) // 2])[0] if skips else whole), losses


class Idle(Plain):
    """Honest losses, but nothing is learnt."""

    def run(self, state, data, plan):
        return state, super().run(state, data, plan)[1]


class OtherTensors(Plain):
    def weights(self, state):
        return {"weight": np.zeros(3)}


class Converts(Plain):
    """Gives its weights, and its losses, in a form of its own."""

    def __init__(self, weights=lambda weights: weights, losses=lambda losses: losses):
        super().__init__()
        self.as_weights, self.as_losses = weights, losses

    def run(self, state, data, plan):
        state, losses = super().run(state, data, plan)
        return state, self.as_losses(losses)

    def weights(self, state):
        return self.as_weights(super().weights(state))


def each(function):
    return lambda tensors: {name: function(value) for name, value in tensors.items()}


class Keeps(Plain):
    """Part of the images."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def place(self, state, images):
        return images[: self.count].copy()


class Late:
    """Losses that are computed when somebody reads them, as a framework's own arrays may be."""

    def __init__(self, losses):
        self.losses = losses

    def __array__(self, dtype=None, copy=None):
        time.sleep(LATE)
        return self.losses


LATE = 0.5


class OnGpu(Plain):
    def devices(self):
        return ("cuda", "cpu")

    def start(self, weights, sgd, *, dtype, device):
        return super().start(weights, sgd, dtype=dtype, device="cpu")

    def peak_memory(self):
        return 12345


def faster_update(parameter, gradient, buffer, sgd, step=0):
    moved, buffer = sgd_update(parameter, gradient, buffer, sgd, step)
    return parameter + 1.01 * (moved - parameter), buffer


def mean_forgotten(logits, labels):
    return Operations().cross_entropy_backward(logits, labels) * len(labels)


frugal, greedy = Keeps(10), Keeps(None)
honest, on_gpu, fed = Plain(), OnGpu(), Fed()
crashes, crashes_later, killed, hangs, raises = Crashes(), CrashesLater(), Killed(), Hangs(), Raises()
leaves, too_large, not_finite, too_few, idle = Leaves(), TooLarge(), NotFinite(), TooFew(), Idle()
other_tensors = OtherTensors()
stops_late = StopsLate()
stops, stops_for_good, restless = Stops(), StopsForGood(), Restless()
tired, worn = Tired(of_all=False), Tired(of_all=True)
guesses = Unwatched(lambda losses: np.full_like(losses, 2.3))
shortens = Unwatched(lambda losses: losses[:-1])
diverges = Unwatched(lambda losses: np.append(losses[:-1], np.nan))
late = Converts(losses=Late)
complex_losses, text_losses = Converts(losses=lambda x: x + 0j), Converts(losses=lambda x: [str(y) for y in x])
lists, texts = Converts(each(lambda x: x.tolist())), Converts(each(lambda x: x.astype(str)))
complex_weights, objects = Converts(each(lambda x: x + 0j)), Converts(each(lambda x: x.astype(object)))
no_mapping, own_class = Converts(lambda _: 5), Converts(each(lambda x: x.view(type("Own", (np.ndarray,), {}))))
faster = Plain(sgd_update=faster_update)
unaveraged = Plain(cross_entropy_backward=mean_forgotten)
incomplete = object()
