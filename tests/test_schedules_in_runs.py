"""Schedules, clipping and groups where sides are compared: checks, long runs that go back, traces."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.checking import check
from parity.compare import JUDGED_STEPS, Finding, Stage
from parity.contract import (
    SGD,
    CosineAnnealingLR,
    InputError,
    LinearLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
    initial_weights,
)
from parity.oracle import impl
from parity.pair import start_pair
from parity.problem import cnn_problem
from parity.running import watch
from parity.running.lockstep import train
from parity.settings import Settings, Side
from parity.trace import Manifest
from parity.trace.manifest import MANIFEST

CYCLE = OneCycleLR(max_lr=0.01, total_steps=9)
CLIPPED = SGD(schedule=CYCLE, clip_norm=0.5, dampening=0.2, weight_decay=0.01, decay_biases=False)


def judged(a, b, dataset, sgd):
    sides = (Side(name="a", implementation=a), Side(name="b", implementation=b))
    return check(sides, cnn_problem(dataset, initial_weights(0)), Settings(sgd=sgd, device="cpu"))


def test_the_twins_match_in_both_precisions(small):
    found = judged(torch_impl.eager, jax_impl.impl, small, CLIPPED)
    assert found.finding is None
    assert found.rounding


@dataclass(frozen=True)
class With:
    """The oracle with other hyper-parameters than it is given."""

    change: Any
    inner: Any = impl

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def start(self, weights, sgd, **keywords):
        return self.inner.start(weights, self.change(sgd), **keywords)


@pytest.mark.parametrize(
    ("change", "step", "stage"),
    [
        (lambda sgd: sgd.resumed(1), 0, "update"),
        (lambda sgd: replace(sgd, schedule=None), 2, "update"),
        (lambda sgd: replace(sgd, clip_norm=None), 0, "gradients"),
        (lambda sgd: replace(sgd, clip_norm=0.5 * (1 + 1e-6)), 0, "gradients"),
        (lambda sgd: replace(sgd, decay_biases=True), 0, "momentum"),
    ],
)
def test_another_argument_is_found_where_it_acts(change, step, stage, small):
    sgd = replace(CLIPPED, lr=0.01, schedule=StepLR(step_size=1, gamma=0.5, every=1 if step == 0 else step))
    found = judged(impl, With(change), small, sgd).finding
    assert (found.kind, found.step, found.place.stage) == ("formula", step, stage)
    assert found.off == ("b",)


PLAN = np.resize(np.arange(100, dtype=np.int32), (JUDGED_STEPS + 1, 4))


def test_a_step_that_float64_takes_again_is_taken_with_its_own_rate(small, monkeypatch):
    """In a long float32 run, late: the program that begins anew in float64 must not begin the schedule anew."""
    taken = []

    def local_finding(pair, rows, **_):
        _, traces = pair.observe(rows)
        taken.extend(traces)

    monkeypatch.setattr(watch, "local_finding", local_finding)
    settings = Settings(sgd=SGD(lr=0.01, schedule=StepLR(step_size=JUDGED_STEPS - 4, gamma=0.5)), device="cpu")
    sides = (Side(name="a", implementation=torch_impl.eager), Side(name="b", implementation=torch_impl.eager))
    pair = start_pair(sides, cnn_problem(small, initial_weights(0)), settings, "cpu").run(PLAN[:-1])
    place = Stage(stage="update", tensor="fc1.bias")
    figures = {"difference": 1.0, "allowed": 0.0, "local": None}
    finding = Finding(kind="formula", step=JUDGED_STEPS, phase="", place=place, off=(), detail="", **figures)
    watch.Watch(settings, "cpu")._settled(finding, pair, PLAN[-1:])
    assert len(taken) == 2
    for trace in taken:
        np.testing.assert_allclose(
            trace.parameters["fc1.bias"], trace.weights["fc1.bias"] - 0.005 * trace.momentum["fc1.bias"], rtol=1e-14
        )


def test_a_run_with_an_ensemble_and_a_schedule_matches(small):
    """The schedule ends low, so that the next step would be refused; nothing takes one more."""
    settings = Settings(sgd=replace(CLIPPED, schedule=replace(CYCLE, total_steps=51)), epochs=2, device="cpu")
    sides = [Side(name="torch", implementation=torch_impl.eager), Side(name="jax", implementation=jax_impl.impl)]
    run = train(sides, small, settings, initial_weights(0), ensemble=2)
    assert run.steps == 52
    assert run.outside is None
    assert run.late is None
    with pytest.raises(InputError, match="Tried to step 52 times"):
        train(sides[:1], small, replace(settings, epochs=3), initial_weights(0))


def manifest_of(folder, small, sgd):
    from parity.trace import record

    record(Side(name="o", implementation=impl), small, Settings(sgd=sgd, steps=2, dtype="float64"), folder)
    return Manifest.read(folder)


def test_a_trace_keeps_the_schedule(small, tmp_path):
    warm = SequentialLR(schedules=(LinearLR(), CosineAnnealingLR(T_max=60)), milestones=(5,), every=3)
    sgd = replace(CLIPPED, schedule=warm)
    assert manifest_of(tmp_path / "trace", small, sgd).settings.sgd == sgd


def test_a_trace_of_before_there_were_schedules_is_readable(small, tmp_path):
    manifest_of(tmp_path, small, SGD(lr=0.01))
    content = json.loads((tmp_path / MANIFEST).read_text())
    for name in ("schedule", "clip_norm", "clip_value", "decay_biases"):
        del content["settings"]["sgd"][name]
    del content["sha256"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (tmp_path / MANIFEST).write_text(json.dumps({**content, "sha256": digest}))
    assert Manifest.read(tmp_path).settings.sgd == SGD(lr=0.01)


def test_a_damaged_schedule_is_refused(small, tmp_path):
    manifest_of(tmp_path, small, SGD(schedule=StepLR(step_size=3)))
    content = json.loads((tmp_path / MANIFEST).read_text())
    content["settings"]["sgd"]["schedule"]["kind"] = "steps"
    del content["sha256"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (tmp_path / MANIFEST).write_text(json.dumps({**content, "sha256": digest}))
    with pytest.raises(InputError, match="does not hold what parity.trace/1 promises"):
        Manifest.read(tmp_path)
