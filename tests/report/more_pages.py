"""Reports of drills, studies and benchmarks to make pages of, some of whose names no page should take for markup."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.bench.growth import Point, grow, sentence
from parity.bench.interval import median_interval
from parity.bench.own_cost import Cost, CostReport
from parity.bench.scaling import AXES, GrowthCurve, ScalingReport
from parity.drill import BENIGN, CATALOGUE, OUTSIDE, rates, subject_of
from parity.drill import drill as run_drill
from parity.environment import describe_environment
from parity.result import DrillReport
from parity.study import EXPERIMENTS, Bench, Curve, Experiment, Figure, Outcome, Panel, Studied, StudyReport, Table
from tests.bench.test_report import differing, report, row
from tests.report.pages import HOSTILE, PATH

PLANTED = ("nesterov", "other-lr", "average-pool")
"""Faults that a check finds in a second or two."""


def drilled(dataset):
    """A real drill of a few faults, all found, on random images."""
    subject = subject_of("parity.oracle", dataset=dataset, whole=True)
    results = []
    for group, faults in {"catalogue": CATALOGUE, "outside": OUTSIDE[:1], "benign": BENIGN[:1]}.items():
        chosen = [fault for fault in faults if fault.key in PLANTED or group != "catalogue"]
        results += run_drill(chosen, subject, group=group, device="cpu")
    return _drill_report(results)


def _drill_report(results):
    return DrillReport(
        command=("parity", "drill", PATH),
        environment=describe_environment(),
        data=PATH,
        implementation="parity.oracle",
        partner="the honest one",
        results=tuple(results),
        rates=rates(results),
    )


def with_misses(whole):
    """The same, as if one fault were misnamed, one were seen too late, one were missed, and there were an alarm."""
    misnamed, late, missed, *rest = whole.results
    changed = [
        replace(misnamed, named=False, names=("something-else",)),
        replace(late, in_time=False, step=5),
        replace(missed, title=HOSTILE, found=False, at="", step=None, stage_right=False, in_time=False, line=PATH),
        *(replace(each, found=True) if each.group == "benign" else each for each in rest),
        replace(missed, key="left-out", applies=False, line="there is no place for it"),
    ]
    return _drill_report(changed)


def studied(*names):
    """A study of some experiments that need no images, in their quick form, and of one whose words are hostile."""
    bench = Bench(quick=True)
    made = [Studied(experiment=(e := EXPERIMENTS[name]), outcome=e.run(bench), seconds=0.1) for name in names]
    return StudyReport(
        command=("parity", "study", *names),
        environment=describe_environment(),
        data=PATH,
        names=("a", HOSTILE),
        seed=0,
        quick=True,
        studied=(*made, Studied(experiment=_HOSTILE_EXPERIMENT, outcome=_hostile(), seconds=0.1)),
    )


_HOSTILE_EXPERIMENT = Experiment(name="words", question=HOSTILE, run=lambda _bench: _hostile())


def _hostile():
    """Many curves, one of thousands of points, points, arrows, gaps, and values beyond float32."""
    x = np.arange(5000.0)
    spike = np.where(x == 4321, 1e60, 1.0)
    curves = [
        Curve(x=x, y=spike, label="<b>spike</b>"),
        *(Curve(x=x[:9], y=x[:9] + n, label=f"{HOSTILE} {n}", color=n) for n in range(1, 13)),
        Curve(x=x[:2], y=x[:2] + 2, label="points", color=3, marks=True),
        Curve(x=x[:1] + 5, y=x[:1] + 3, color=3, marks=True, beyond=True),
        Curve(x=x[:3], y=np.full(3, np.nan), label="nothing", color=-1),
    ]
    panel = Panel(title=HOSTILE, x_label="x < 1 & y", y_label=HOSTILE, curves=tuple(curves), log_y=True)
    figure = Figure(name="words", title=HOSTILE, caption=PATH, panels=(panel,))
    return Outcome(figures=(figure,), table=Table(columns=("what", HOSTILE), rows=((HOSTILE, None), ("x", 0.5))))


def benchmark():
    """Twelve contestants at three batch sizes in an order that is not theirs, all timed."""
    return _at_batches(report(), [row(f"contestant_{n}", 1e-3 * (1 + n)) for n in range(12)])


def benchmark_with_failures():
    """Two that were timed, one whose name is hostile that computes something else, and one that failed."""
    whole = report(1e-3, 2e-3)
    rows = [*whole.cells[0].rows, differing(HOSTILE)]
    return replace(_at_batches(whole, rows), command=("parity", "bench", PATH), load=3.0)


def _at_batches(whole, rows):
    cells = {size: tuple(_slower(each, size) for each in rows) for size in _SIZES}
    return replace(whole, cells=tuple(replace(whole.cells[0], batch_size=n, rows=rows) for n, rows in cells.items()))


_SIZES = (4, 128, 32)


def _slower(contestant, factor):
    return replace(contestant, seconds=tuple(factor * seconds for seconds in contestant.seconds))


def scaled():
    """Two contestants along two axes, of which one fails along the second."""
    points = tuple(Point(x=x, work=x, seconds=1e-3 + 1e-4 * x) for x in (1, 4, 16, 64))

    def curve(axis, name):
        words = sentence(name, AXES[axis], points)
        return GrowthCurve(axis=axis, contestant=name, points=points, line=grow(points), sentence=words)

    failed = GrowthCurve(axis="data", contestant=HOSTILE, reason=PATH)
    return ScalingReport(
        command=("parity", "bench", "--scaling"),
        environment=describe_environment(),
        data="images",
        dtype="float32",
        device="cpu",
        threads=1,
        rounds=3,
        curves=(curve("batch", "one"), curve("batch", HOSTILE), curve("data", "one"), failed),
    )


def costs(*medians):
    """Lockstep and a check that cost so much, and memory, which has no limit here."""
    lockstep, check = medians
    near = median_interval([lockstep, 1.01 * lockstep])
    shown = (
        Cost(name="lockstep", unit="times", value=near, bar=1.1, detail=HOSTILE),
        Cost(name="check", unit="s", value=median_interval([check, check]), bar=20.0, detail="of the two"),
        Cost(name="memory", unit="bytes a step", value=median_interval([9.0]), bar=None, detail="of lockstep"),
    )
    return CostReport(
        command=("parity", "bench", "--judge"),
        environment=describe_environment(),
        names=("a", HOSTILE),
        data="images",
        threads=1,
        costs=shown,
    )
