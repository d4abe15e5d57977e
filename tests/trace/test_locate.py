"""A planted deviation is found at its own step; nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import jax_impl
import torch_impl
from parity.contract import InputError
from parity.settings import Settings, Side
from parity.trace import compare_traces, read_trace, record
from tests.trace.conftest import record_wide
from tests.trace.fakes import Wide, wrong_lr


def projected_only(trace):
    return replace(trace, full={})


# From 1e-8 on: an estimate below the bound of 1e-9 would need |P x|^2 below |x|^2 / 100, which chi-square with 64
# degrees of freedom never gives (probability 1e-50).
SIZES = st.floats(-8, -3).map(lambda exponent: 10.0**exponent)


@given(step=st.integers(0, 99), stage=st.sampled_from(["loss", "momentum", "update"]), size=SIZES)
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_deviation_is_located_at_its_step_from_projections_alone(small, tmp_path_factory, step, stage, size):
    folder = tmp_path_factory.mktemp("pair")
    honest = projected_only(record_wide(folder / "a", small, steps=100))
    off = projected_only(record_wide(folder / "b", small, Wide(deviates_at=step, stage=stage, size=size), steps=100))
    found = compare_traces(honest, off)
    assert (found.outcome, found.exit_code, found.full) == ("differs", 1, 0)
    assert (found.first_break.step, found.first_break.since, found.first_break.stage) == (step, step - 1, stage)
    if stage == "update":
        assert (found.first_break.tensor, found.first_break.measured) == ("fc3.weight", "estimated")
        # Five standard deviations of an estimate with 64 degrees of freedom, each sqrt(2 / 64) / 2.
        assert abs(found.first_break.difference / size - 1) < 5 * 0.088
    if stage == "momentum":
        assert found.first_break.measured == "at least"
        assert abs(found.first_break.difference / size - 1) < 0.01


@given(step=st.integers(0, 99), every=st.integers(2, 20), size=SIZES)
@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_with_a_wider_distance_it_is_located_between_two_recorded_states(small, tmp_path_factory, step, every, size):
    folder = tmp_path_factory.mktemp("pair")
    a = projected_only(record_wide(folder / "a", small, steps=100, every=every))
    b = projected_only(record_wide(folder / "b", small, Wide(deviates_at=step, size=size), steps=100, every=every))
    found = compare_traces(a, b).first_break
    # The loss may show it before the next recorded state does.
    assert found.since < step <= found.step <= next(count - 1 for count in a.counts.tolist() if count > step)


@pytest.mark.parametrize("size", [1e-11, 1e-10])
def test_below_the_bound_nothing_is_found(small, tmp_path, original, size):
    off = record_wide(tmp_path / "off", small, Wide(deviates_at=77, size=size))
    found = compare_traces(read_trace(original), off)
    assert (found.outcome, found.first_break) == ("match", None)
    # An estimate is off by 9 %, and the storage adds what it says.
    assert 0.5 * size < found.largest["update"].difference < 2 * size + found.resolution
    # No step moves a tensor of this model by more than a hundredth of itself: 2**-24 of that, in both traces.
    assert found.resolution < 2.0**-23 * 0.01 + 2.0**-46


def test_a_null_run_brings_the_noise_down_to_what_it_is(small, tmp_path, original):
    """1e-10 hides below the bound, and is a million times what float64 rounding makes of one ulp."""
    null = record_wide(tmp_path / "null", small, nudge=1)
    other = record_wide(tmp_path / "other", small, nudge=2)
    honest = read_trace(original)
    off = record_wide(tmp_path / "off", small, Wide(deviates_at=77, size=1e-10))
    found = compare_traces(honest, off, [null])
    assert found.outcome == "differs"
    # At its own step the storage of projections may hide so little; the next loss does not.
    assert found.first_break.step in (77, 78)
    # Another null run is no further away than its like; it stands for an honest side here.
    same_start = replace(other, manifest=replace(other.manifest, nudge=None))
    assert compare_traces(honest, same_start, [null]).outcome == "match"


def test_float32_is_judged_beside_null_runs_only(small, tmp_path):
    honest, wrong = (
        record_wide(tmp_path / name, small, side, dtype="float32") for name, side in (("a", None), ("b", wrong_lr))
    )
    null, other = (record_wide(tmp_path / f"null{seed}", small, nudge=seed, dtype="float32") for seed in (1, 2))
    same_start = replace(other, manifest=replace(other.manifest, nudge=None))
    alone = compare_traces(honest, same_start)
    assert (alone.outcome, alone.exit_code) == ("not judged", 2)
    assert compare_traces(honest, same_start, [null]).outcome == "match"
    beside = compare_traces(honest, wrong, [null])
    assert (beside.outcome, beside.exit_code) == ("not judged", 2)
    assert beside.first_break.step < 20


def test_a_float32_deviation_is_located_without_and_with_null_runs(small, tmp_path):
    honest, off, null, other = (
        record_wide(tmp_path / name, small, Wide(deviates_at=at, size=1e-2), nudge=nudge, dtype="float32")
        for name, at, nudge in (("a", None, None), ("b", 123, 5), ("null", None, 1), ("other", None, 2))
    )
    off = replace(off, manifest=replace(off.manifest, nudge=None))
    for nulls in ([], [null], [null, other]):
        found = compare_traces(honest, off, nulls)
        assert (found.first_break.step, found.first_break.stage) == (123, "update")
        assert found.outcome == "not judged"


def test_a_side_that_keeps_no_momentum_stands_at_zero(small, tmp_path, original):
    class Forgets(Wide):
        def momentum(self, state):
            return {}

    found = compare_traces(read_trace(original), record_wide(tmp_path / "b", small, Forgets()))
    assert (found.first_break.step, found.first_break.stage, found.first_break.difference) == (0, "momentum", 1.0)


def test_the_twins_match_in_float64(small, tmp_path):
    sides = {"torch_impl:eager": torch_impl.eager, "jax_impl": jax_impl.impl}
    traces = {}
    for name, implementation in sides.items():
        record(
            Side(name=name, implementation=implementation),
            small,
            Settings(steps=60, dtype="float64"),
            tmp_path / name,
        )
        traces[name] = read_trace(tmp_path / name)
    found = compare_traces(*traces.values())
    assert (found.outcome, found.recorded, found.full) == ("match", 60, 8)
    # Rounding enters at 1e-16, and 60 steps have not amplified it by a thousand.
    assert found.largest["loss"].difference < 1e-13
    assert found.largest["momentum"].difference < 1e-13


def test_a_wrong_learning_rate_of_a_twin_is_found_at_the_first_step(small, tmp_path):
    class WrongRate:
        def __getattr__(self, name):
            return getattr(torch_impl.eager, name)

        def start(self, weights, sgd, *, dtype, device):
            return torch_impl.eager.start(weights, replace(sgd, lr=sgd.lr * 1.001), dtype=dtype, device=device)

    chosen = Settings(steps=5, dtype="float64")
    for name, implementation in (("a", torch_impl.eager), ("b", WrongRate())):
        record(Side(name=name, implementation=implementation), small, chosen, tmp_path / name)
    found = compare_traces(read_trace(tmp_path / "a"), read_trace(tmp_path / "b"))
    assert (found.outcome, found.first_break.step, found.first_break.stage) == ("differs", 0, "update")


def test_traces_without_a_common_recorded_state_are_refused(original):
    trace = read_trace(original)
    empty = replace(trace, counts=trace.counts[:0])
    with pytest.raises(InputError, match="it has no recorded state in common"):
        compare_traces(trace, empty)


def test_noise_of_the_tensors_own_size_is_no_match(small, tmp_path):
    """A null run that has nothing to do with A would let anything pass."""
    honest, null = record_wide(tmp_path / "a", small), record_wide(tmp_path / "n", small, nudge=1)
    moved = tuple(replace(chunk, moves=chunk.moves - 1, base=-chunk.base) for chunk in null.chunks)
    drowned = replace(null, full={}, chunks=moved, losses=2 * null.losses, momentum_norms=2 * null.momentum_norms)
    off = record_wide(tmp_path / "b", small, Wide(deviates_at=9, size=1e-10))
    found = compare_traces(honest, off, [drowned])
    assert (found.outcome, found.first_break) == ("not judged", None)
