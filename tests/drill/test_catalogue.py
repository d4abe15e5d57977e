"""Every fault of the catalogue, and every change that is none, in a check of its own."""

import re

import pytest

from parity.compare.formula import EPS, ULPS
from parity.contract import STAGES
from parity.drill import BENIGN, CATALOGUE, OUTSIDE
from parity.drill.drill import drill, planted
from parity.drill.fault import ANY, CNN, ORACLE, PRECISION, UNKNOWN
from parity.drill.score import score

ROWS = {
    "no 0.5 shift": ["no-shift"],
    "raw pixels": ["raw-pixels"],
    "other mean and std": ["other-normalisation"],
    "divide by 256": ["divided-by-256"],
    "BGR": ["bgr"],
    "H and W swapped": ["image-axes-swapped"],
    "planar reshape": ["planar-reshape"],
    "other order": ["other-order", "batch-skipped"],
    "no reshuffle": ["no-reshuffle"],
    "last batch dropped": ["last-batch-dropped"],
    "labels rolled": ["labels-rolled"],
    "label + 1": ["label-plus-one"],
    "one-based label": ["one-based-label"],
    "float32 preprocessing": ["float32-preprocessing"],
    "buffer reused": ["buffer-reused"],
    "kernel H and W swapped": ["kernel-axes-swapped", "kernel-axes-swapped-by-layout"],
    "kernel flipped": ["kernel-flipped", "kernel-flipped-by-layout"],
    "conv1 channels reversed": ["conv1-channels-reversed"],
    "flatten order": ["flatten-order", "flatten-order-by-layout"],
    "linear reshaped": ["linear-reshaped"],
    "weights rounded": ["weights-rounded-bfloat16", "weights-rounded-float16"],
    "biases aliased": ["biases-aliased"],
    "own initialiser": ["own-initialiser"],
    "ReLU left out": ["relu-missing-conv1", "relu-missing-fc2"],
    "average pool": ["average-pool"],
    "padding SAME": ["padding-same"],
    "dropout left on": ["dropout-left-on"],
    "ReLU on logits": ["relu-on-logits"],
    "ReLU gradient at 0": ["relu-gradient-at-zero"],
    "pool ties": ["pool-ties"],
    "loss summed": ["loss-summed"],
    "softmax twice": ["softmax-twice"],
    "log(softmax + 1e-8)": ["log-epsilon"],
    "L2 in the loss": ["l2-in-loss"],
    "last batch padded": ["last-batch-padded"],
    "bias gradient lost": ["bias-gradient-lost"],
    "gradients not reset": ["gradients-not-reset"],
    "extra clipping": ["extra-clipping"],
    "gradient rounded": ["gradient-rounded-bfloat16", "gradient-rounded-float32"],
    "no momentum": ["no-momentum", "momentum-state-lost"],
    "other momentum": ["other-momentum"],
    "dampening ignored": ["dampening-ignored", "dampening-added"],
    "averaged momentum": ["averaged-momentum"],
    "nesterov": ["nesterov", "nesterov-lost"],
    "other lr": ["other-lr", "other-lr-tenfold"],
    "ascent": ["ascent"],
    "weight decay added or lost": ["weight-decay-added", "weight-decay-added-tiny", "weight-decay-lost"],
    "decay on biases too, or only": ["decay-on-biases", "decay-on-biases-only"],
    "decay after the momentum": ["decoupled-decay"],
    "lr in float32": ["lr-in-float32"],
    "momentum kept in bfloat16": ["momentum-in-bfloat16"],
    "gradient accumulation": ["gradient-accumulation"],
    "tensor not stepped": ["tensor-not-stepped"],
    "update clipped": ["update-clipped", "update-value-clipped"],
    "update applied twice": ["update-twice"],
    "Adam": ["adam"],
    "first lr skipped": ["first-lr-skipped"],
    "lr one step early or late": ["lr-early", "lr-late"],
    "scheduler per batch": ["scheduler-per-batch"],
    "lr baked into jit": ["lr-baked"],
    "lr inside the buffer": ["lr-inside-buffer"],
    "inverse-time decay": ["inverse-time-decay"],
    "no staircase": ["no-staircase"],
    "float32 schedule": ["float32-schedule"],
    "loss after the update": ["loss-after-update"],
    "metric only": ["metric-axis", "metric-not-normalised", "metric-mean-of-batches"],
    "x64 off": ["x64-off"],
    "bfloat16 compute": ["bfloat16-compute"],
    "TF32": ["tf32"],
    "not deterministic": ["not-deterministic"],
}
"""The mistakes that are known to happen, and the faults that stand for them."""

FAULTS = {fault.key: fault for fault in (*CATALOGUE, *OUTSIDE)}
CHANGES = {change.key: change for change in BENIGN}

SIDES = ("a", "b")

UNBLAMED = {"averaged-weights-evaluated"}
"""The oracle is not asked about the evaluation."""


OTHERWISE = {"fc3-bias-missing"}
"""Faults outside the catalogue that are not named as they are: its gradient by a bias that it does not have is left."""


def side_of(key):
    """One side for each, so that half of them are on either."""
    return SIDES[sorted([*FAULTS, *CHANGES]).index(key) % 2]


def test_the_catalogue_holds_every_known_mistake_once():
    assert sorted(key for keys in ROWS.values() for key in keys) == sorted(fault.key for fault in CATALOGUE)


def test_keys_are_kebab_case_and_unique():
    keys = [entry.key for entry in (*CATALOGUE, *OUTSIDE, *BENIGN)]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys)


def test_there_are_enough_of_each():
    assert len(OUTSIDE) >= 16
    assert len(BENIGN) >= 15


@pytest.mark.parametrize("key", FAULTS)
def test_a_fault_is_well_formed(key):
    fault = FAULTS[key]
    assert fault.stage in STAGES
    assert 0 <= fault.first <= fault.probe.steps
    assert fault.scope in (ANY, CNN, ORACLE, PRECISION)
    assert fault.right_names
    assert (UNKNOWN in fault.right_names) == (fault in OUTSIDE)


@pytest.mark.parametrize("key", FAULTS)
def test_a_fault_is_found_at_its_stage_and_its_first_step_and_its_side_is_blamed(key, subject):
    fault, side = FAULTS[key], side_of(key)
    pair, checked = planted(fault, subject, side=side)
    result = score(fault, checked, group="catalogue", side=side, seconds=0.0)
    assert result.right, result.line
    assert result.named or key in OTHERWISE, result.line
    # Neither later nor sooner: a fault that showed sooner would be another one than the catalogue says.
    assert (result.step or 0) == fault.first
    if key not in UNBLAMED:
        assert checked.finding.off == (pair[SIDES.index(side)].name,)
    # A step from the other side's tensors repeats the fault, unless it is those tensors.
    if key not in UNBLAMED and not fault.phase and fault.first == 0:
        assert checked.finding.local is None or (checked.finding.local <= ULPS * EPS) == (fault.stage == "weights")


@pytest.mark.parametrize("key", CHANGES)
def test_a_benign_change_matches(key, subject):
    (result,) = drill([CHANGES[key]], subject, group="benign", sides=(side_of(key),))
    assert result.right, result.line
    assert (result.found, result.at, result.expected) == (False, "", "")
