"""Real porting mistakes in runs: the first judge, which sees losses and states alone, must see each of them.

The catalogue is the drill's (`parity.drill`), where a check sees every stage; what changes neither a loss nor a state
is left to it.
"""

from __future__ import annotations

import numpy as np
import pytest

import jax_impl
import torch_impl
from parity.compare import Outcome
from parity.contract import SGD, initial_weights
from parity.drill import BENIGN, CATALOGUE
from parity.drill.fault import Host
from parity.drill.wrapped import Wrapped
from parity.problem import cnn_problem
from parity.run import run_sides
from parity.settings import Settings, Side

CHANGES = {entry.key: entry for entry in (*CATALOGUE, *BENIGN)}


def planted(key, implementation, dataset, settings):
    """The implementation with this entry of the catalogue."""
    host = Host(
        implementation=implementation,
        problem=cnn_problem(dataset, initial_weights(settings.seed)),
        settings=settings,
        batches=[np.arange(settings.batch_size, dtype=np.int32)],
        steps_per_epoch=26,
    )
    return CHANGES[key].plant(host)


def report_on(right, changed, dataset, settings):
    """The report on an implementation beside one with something changed."""
    sides = [Side(name="right", implementation=right), Side(name="changed", implementation=changed)]
    report = run_sides(sides, dataset, settings).report
    assert report.verdict is not None
    return report


SEEN = [
    "bgr",
    "image-axes-swapped",
    "planar-reshape",
    "label-plus-one",
    "kernel-axes-swapped",
    "kernel-flipped",
    "flatten-order",
    "weights-rounded-bfloat16",
    "no-momentum",
    "other-momentum",
    "dampening-ignored",
    "other-lr",
    "weight-decay-added",
    "weight-decay-added-tiny",
    "ascent",
    "update-twice",
    "lr-in-float32",
]


class OtherOrder(Wrapped):
    """The batches of a chunk in another order."""

    def run(self, state, data, plan):
        return super().run(state, data, np.roll(plan, 1, axis=0))


@pytest.mark.parametrize("key", SEEN)
def test_a_fault_is_never_a_match(key, small):
    """On the torch side, which needs no compilation; the dampening makes `ignored` visible."""
    settings = Settings(sgd=SGD(lr=0.01, dampening=0.2), epochs=2, dtype="float64", device="cpu")
    report = report_on(torch_impl.eager, planted(key, torch_impl.eager, small, settings), small, settings)
    assert report.verdict.outcome is Outcome.DIFFERS
    assert report.ending.exit_code == 1


def test_another_order_is_never_a_match(small):
    settings = Settings(epochs=2, dtype="float64", device="cpu")
    report = report_on(torch_impl.eager, OtherOrder(torch_impl.eager), small, settings)
    assert report.verdict.outcome is Outcome.DIFFERS


@pytest.mark.parametrize("key", ["flatten-order", "nesterov"])
def test_a_fault_between_the_frameworks_is_seen_in_a_float32_run(key, small):
    settings = Settings(epochs=1, device="cpu")
    report = report_on(torch_impl.eager, planted(key, jax_impl.impl, small, settings), small, settings)
    assert report.verdict.outcome is Outcome.DIFFERS


@pytest.mark.parametrize("key", ["nothing", "reordered-inside-batch", "float32-weights", "own-optimizer"])
def test_a_benign_change_matches(key, small):
    settings = Settings(epochs=2, dtype="float64", device="cpu")
    report = report_on(torch_impl.eager, planted(key, torch_impl.eager, small, settings), small, settings)
    assert report.verdict.outcome is Outcome.MATCH
