"""Reports to make pages of: runs and checks of small NumPy programs, with names that no page should take for markup."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from parity import oracle
from parity.checking import check
from parity.compare import Errors, Rounding, Stage
from parity.contract import initial_weights
from parity.data import Dataset
from parity.environment import describe_environment
from parity.problem import cnn_problem
from parity.result import CheckReport
from parity.run import run_sides
from parity.settings import Settings, Side
from tests import fakes
from tests.conftest import small_arrays

HOSTILE = "<script>alert(1)</script>"
CLASSES = (HOSTILE, "</script><b>b", "<!--", "c&d", '"quoted"', "f", "g", "h", "i", "a class with a very long name")
PATH = "/tmp/</script><img src=x onerror=alert(2)>.json"  # noqa: S108  never opened


@dataclass(frozen=True)
class Nudged(fakes.Fake):
    """An honest twin in float32: it begins one unit in the last place away, and computes the same formula."""

    def start(self, weights, sgd, *, dtype, device):
        state = super().start(weights, sgd, dtype=dtype, device=device)
        return replace(state, bias=np.nextafter(state.bias, state.bias.dtype.type(1))) if dtype == "float32" else state


def run(*, steps=3100, other=None, ensemble=2):
    """(result, data set) of a run of many steps."""
    dataset = Dataset(name="x", origin=PATH, classes=CLASSES, **small_arrays(train=4000, test=200))
    sides = (Side(name="honest", implementation=fakes.honest), Side(name=HOSTILE, implementation=other or Nudged()))
    settings = Settings(steps=steps, epochs=4)
    return run_sides(sides, dataset, settings, command=("parity", "run", PATH), ensemble=ensemble), dataset


class Faulty(type(oracle.impl)):
    """The oracle with another learning rate."""

    def start(self, weights, sgd, *, dtype, device):
        return super().start(weights, replace(sgd, lr=1.1 * sgd.lr), dtype=dtype, device=device)


class NotFinite(type(oracle.impl)):
    """The oracle, whose record of the second step has two gradients with one element each that is no number."""

    def observe(self, state, data, rows):
        moved, trace = super().observe(state, data, rows)
        if not any(np.any(value) for value in self.momentum(state).values()):
            return moved, trace
        gradients = {name: value.copy() for name, value in trace.gradients.items()}
        for value, wrong in zip(gradients.values(), (np.nan, np.inf), strict=False):
            value.flat[0] = wrong
        return moved, replace(trace, gradients=gradients)


def checked(other, name="other"):
    """A check of the oracle beside another."""
    dataset = Dataset(name="x", origin="random images", **small_arrays())
    sides = (Side(name="oracle", implementation=oracle.impl), Side(name=name, implementation=other))
    problem = cnn_problem(dataset, initial_weights(0))
    return CheckReport(
        command=("parity", "check", PATH),
        environment=describe_environment(),
        data=PATH,
        settings=Settings(),
        names=("oracle", name),
        notes=(HOSTILE,),
        check=check(sides, problem, Settings(), steps=3, details=True),
        data_sha256=problem.fingerprint(),
    )


def with_rounding(report):
    """The report as if both sides had computed in float32 too."""
    errors = Errors(a=2e-7, b=3e-7, apart=1e-7, null=1e-7, floor=1e-6)
    places = [Stage(stage="gradients", tensor=name) for name in ("conv1.weight", "fc3.bias")]
    rounding = tuple(Rounding(place=place, errors=errors, spread=0.3, steps=3) for place in places)
    return replace(report, check=replace(report.check, rounding=rounding, refusal=None))
