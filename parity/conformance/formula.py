"""Promises about what the CNN computes: what the oracle does, stage by stage, with every argument of SGD."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity import oracle
from parity.checking.ladder import climb
from parity.checking.probes import tie_probe
from parity.compare import formula_finding
from parity.conformance.observing import complete, observe_agrees, partial_batch, records_states, update_follows
from parity.conformance.promise import Unoffered, promise, require
from parity.conformance.running import float64
from parity.conformance.subject import HYPER, Subject
from parity.contract import SGD, OneCycleLR, StepLR
from parity.lane import Lane
from parity.pair import Pair
from parity.settings import Settings, Side

__all__ = ["FORMULA", "agrees_with_oracle"]

VARIANTS = {
    "all arguments": HYPER,
    "the defaults": SGD(),
    "no momentum": SGD(lr=0.01, momentum=0.0, weight_decay=0.01),
    "nesterov": SGD(lr=0.01, nesterov=True, weight_decay=0.01),
    "maximize": SGD(lr=0.01, maximize=True, weight_decay=0.01),
}

# What an implementation may refuse, by InputError, but not leave out.
REFUSABLE = {
    "a schedule, clipped norms and biases that do not decay": replace(
        HYPER, schedule=StepLR(step_size=1, gamma=0.5), clip_norm=0.5, decay_biases=False
    ),
    "a schedule of the momentum and clipped values": SGD(
        momentum=0.0, schedule=OneCycleLR(max_lr=0.02, total_steps=6), clip_value=0.01
    ),
}


@promise(after=(complete, records_states, observe_agrees, partial_batch, update_follows, float64), dtypes=("float64",))
def agrees_with_oracle(subject: Subject) -> None:
    """It computes what the oracle computes, in float64."""
    _require_cnn(subject)
    refusable = {name: sgd for name, sgd in REFUSABLE.items() if subject.takes(sgd)}
    for name, sgd in {**VARIANTS, **refusable}.items():
        _require_match(_beside_oracle(replace(subject, sgd=sgd)), subject, f"with {name}")


@promise(after=(agrees_with_oracle,), dtypes=("float64",))
def ties(subject: Subject) -> None:
    """It computes what the oracle computes where values tie."""
    _require_cnn(subject)
    labels = subject.given_data()[1][subject.plan[0]]
    arrays, weights = tie_probe(labels)
    problem = replace(subject.problem, train=arrays, test=arrays, weights=weights)
    rows = np.arange(len(labels), dtype=np.int32)
    probed = replace(subject, problem=problem, plan=rows[np.newaxis])
    _require_match(_beside_oracle(probed), probed, "of equal values")


def _require_cnn(subject: Subject) -> None:
    if not subject.is_cnn:
        raise Unoffered("the oracle is the CNN's")


def _beside_oracle(subject: Subject) -> Pair:
    """The oracle, and the implementation."""
    truth, lane = Lane(side=Side(name="parity.oracle", implementation=oracle.impl)), Lane(side=subject.side)
    settings = Settings(sgd=subject.sgd, dtype=subject.dtype)
    data = subject.given_data()
    problem = replace(subject.problem, train=data, test=data, weights=subject.given_weights())
    states = truth.start(problem, settings, "cpu"), lane.start(problem, settings, subject.device)
    return Pair(lanes=(truth, lane), states=states, problem=problem)


def _require_match(pair: Pair, subject: Subject, case: str) -> None:
    climbed = climb(pair, list(subject.plan))
    finding = None
    if climbed.broken:
        finding = formula_finding(climbed.broken.rung, local=climbed.broken.local)
    elif climbed.unproved:
        finding = formula_finding(climbed.unproved)
    require(finding is None, f"{case}, it {finding.line}" if finding else "")


FORMULA = (agrees_with_oracle, ties)
