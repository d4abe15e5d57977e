"""Real porting mistakes, planted in copies of the implementations: the first judge must see each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.compare import Outcome
from parity.contract import SGD
from parity.run import run_sides
from parity.settings import Settings, Side

Change = Callable[[Any], Any]


def unchanged(value):
    return value


@dataclass(frozen=True)
class Wrapped:
    """An implementation with something changed on the way in."""

    inner: Any
    sgd: Change = unchanged
    weights_in: Change = unchanged
    images: Change = unchanged
    labels: Change = unchanged
    plan: Change = unchanged

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def start(self, weights, sgd, *, dtype, device):
        return self.inner.start(self.weights_in(dict(weights)), self.sgd(sgd), dtype=dtype, device=device)

    def place(self, state, images, labels):
        return self.inner.place(state, np.ascontiguousarray(self.images(images)), self.labels(labels))

    def run(self, state, data, plan):
        return self.inner.run(state, data, np.ascontiguousarray(self.plan(plan)))

    def observe(self, state, data, rows):
        return self.inner.observe(state, data, np.ascontiguousarray(self.plan(rows[np.newaxis])[0]))


def with_sgd(**changes):
    return {"sgd": lambda sgd: dataclasses.replace(sgd, **changes)}


def with_weight(name, change):
    return {"weights_in": lambda weights: weights | {name: np.ascontiguousarray(change(weights[name]))}}


def bfloat16(value):
    """Round to 8 significant bits, by cutting the float32 pattern off."""
    return (value.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def to_hwc(weight):
    """fc1 as if the features came in (H, W, C) order: the permutation at the flatten is left out."""
    return weight.reshape(120, 16, 5, 5).transpose(0, 2, 3, 1).reshape(120, 400)


FAULTS = {
    "BGR": {"images": lambda images: images[..., ::-1]},
    "H and W swapped": {"images": lambda images: images.transpose(0, 2, 1, 3)},
    "planar reshape": {"images": lambda images: images.transpose(0, 3, 1, 2).reshape(images.shape)},
    "labels rolled": {"labels": lambda labels: np.roll(labels, 1)},
    "label + 1": {"labels": lambda labels: (labels + 1) % 10},
    "other order": {"plan": lambda plan: plan[:, ::-1] if len(plan) == 1 else np.roll(plan, 1, axis=0)},
    "kernel H and W swapped": with_weight("conv1.weight", lambda w: w.transpose(0, 1, 3, 2)),
    "kernel flipped": with_weight("conv2.weight", lambda w: w[:, :, ::-1, ::-1]),
    "flatten order": with_weight("fc1.weight", to_hwc),
    "weights rounded": with_weight("fc2.weight", bfloat16),
    "no momentum": with_sgd(momentum=0.0),
    "other momentum": with_sgd(momentum=0.99),
    "dampening ignored": with_sgd(dampening=0.0),
    "nesterov": with_sgd(nesterov=True, dampening=0.0),
    "other lr": with_sgd(lr=0.002),
    "ascent": with_sgd(maximize=True),
    "weight decay added": with_sgd(weight_decay=5e-4),
    "lr in float32": with_sgd(lr=float(np.float32(0.001))),
    "weight decay, tiny": with_sgd(weight_decay=1e-6),
}


def report_on(right, wrong, changes, dataset, settings):
    """The report on an implementation beside another one with something changed."""
    sides = [
        Side(name="right", implementation=right),
        Side(name="changed", implementation=Wrapped(wrong, **changes)),
    ]
    report = run_sides(sides, dataset, settings).report
    assert report.verdict is not None
    return report


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_never_a_match(fault, small):
    """On the torch side, which needs no compilation; the dampening makes `ignored` visible."""
    settings = Settings(sgd=SGD(dampening=0.2), epochs=2, dtype="float64", device="cpu")
    report = report_on(torch_impl.eager, torch_impl.eager, FAULTS[fault], small, settings)
    assert report.verdict.outcome is Outcome.DIFFERS
    assert report.ending.exit_code == 1


@pytest.mark.parametrize("fault", ["flatten order", "nesterov"])
def test_a_fault_between_the_frameworks_is_seen_in_a_float32_run(fault, small):
    settings = Settings(epochs=1, device="cpu")
    report = report_on(torch_impl.eager, jax_impl.impl, FAULTS[fault], small, settings)
    assert report.verdict.outcome is Outcome.DIFFERS


BENIGN = {
    "nothing changed": {},
    "reordered inside a batch": {"plan": lambda plan: plan[:, ::-1]},
    "weights are float32 values already": with_weight("fc1.weight", lambda w: w.astype(np.float32).astype(np.float64)),
}


@pytest.mark.parametrize("change", BENIGN)
def test_a_benign_change_matches(change, small):
    settings = Settings(epochs=2, dtype="float64", device="cpu")
    report = report_on(torch_impl.eager, torch_impl.eager, BENIGN[change], small, settings)
    assert report.verdict.outcome is Outcome.MATCH
