"""Whole benchmarks of contestants in NumPy: every one is a row, whatever it does."""

import sys
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from parity.bench.benchmark import benchmark
from parity.bench.contender import shared
from parity.bench.contestants import Entrant, named
from parity.bench.limits import Limits
from parity.bench.own_cost import (
    ENSEMBLE,
    FLAT_BAR,
    KEPT,
    _command_seconds,
    command_seconds,
    lockstep_seconds,
    peak_bytes,
    recording_seconds,
)
from parity.bench.process import ContestantError, Process
from parity.bench.race import Course, race
from parity.bench.scaling import _spots, measure_scaling
from parity.bench.trial import Trial
from parity.bench.truth import true_run
from parity.bench.work import step_work
from parity.cli import cli
from parity.contract import SGD, InputError, initial_weights
from parity.registry import resolve
from parity.running.lockstep import CHUNK, train
from parity.settings import Settings, Side
from tests.bench.contestants import FEW

PLACE = "tests.bench.contestants"
QUICK = Trial(
    batch_sizes=(2,), dtypes=("float64",), device="cpu", threads=1, rounds=5, round_seconds=0.02, timeout=120.0
)


def test_what_fails_or_differs_is_a_row_and_the_others_are_timed(small):
    names = ("honest", "faster", "crashes", "raises", "crashes_later", "nobody", "on_gpu")
    cells = []
    report = benchmark(named([f"{PLACE}:{name}" for name in names]), small, QUICK, on_cell=cells.append)
    assert [cell.rows for cell in cells] == [cell.rows for cell in report.cells]
    rows = {row.contestant.partition(":")[2]: row for row in report.cells[0].rows}
    assert {name: row.outcome for name, row in rows.items()} == {
        "honest": "timed",
        "faster": "differs",
        "crashes": "failed",
        "raises": "failed",
        "crashes_later": "failed",
        "nobody": "failed",
        "on_gpu": "timed",
    }
    honest = rows["honest"]
    assert len(honest.seconds) == len(honest.cpu_seconds) == QUICK.rounds
    assert honest.steps >= 1
    assert honest.judged.passed
    assert honest.description == "the oracle, for tests"
    assert rows["on_gpu"].memory.device == 12345
    assert "differs: " in rows["faster"].reason
    assert rows["faster"].seconds == rows["crashes_later"].seconds == ()
    assert report.exit_code == 1
    assert report.cells[0].floor > 0
    assert [limits.threads for limits in report.limits] == [1]


def test_limits_are_measured_before_between_and_after_the_cells(small, monkeypatch):
    """The fastest counts, in every cell of the report; one that fails takes nothing from the others."""
    rates, happened = iter([3e9, None, 5e9, 4e9]), []

    def limits(trial, device, _announce):
        happened.append(device)
        rate = next(rates)
        fields = {"threads": trial.cores, "bandwidth": 1e20, "memory_bandwidth": 1e20, "latency": 1e-6}
        return [Limits(operations={"float64": rate}, **fields)] if rate else ()

    monkeypatch.setattr("parity.bench.benchmark.measure_limits", limits)
    trial = Trial(**{**_fields(QUICK), "batch_sizes": (1, 2)})
    cells = []

    def done(cell):
        happened.append("cell")
        cells.append(cell)

    report = benchmark(named([f"{PLACE}:honest"]), small, trial, on_cell=done)
    assert happened == ["cpu", "cpu", "cell", "cpu", "cpu", "cell"]
    assert report.limits[0].operations == {"float64": 5e9}
    operations = [step_work(size, "float64").operations for size in (1, 2)]
    assert [cell.floor for cell in cells] == [operations[0] / 3e9, operations[1] / 5e9]
    assert [cell.floor for cell in report.cells] == [count / 5e9 for count in operations]


def test_what_is_timed_is_judged_too(small):
    """These pass the 20 steps, and compute something else in the calls that count."""
    names = ("guesses", "shortens", "diverges")
    rows = benchmark(named([f"{PLACE}:{name}" for name in names]), small, QUICK).cells[0].rows
    assert [row.outcome for row in rows] == ["differs"] * 3
    guesses, shortens, diverges = (row.reason for row in rows)
    assert guesses.startswith("loss")
    assert " differs: " in guesses
    assert shortens.startswith("run() returned losses of shape (")
    assert diverges.startswith("run() returned nan as the loss of step ")
    assert all(row.seconds == () for row in rows)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stops", "differs: "),
        ("stops_for_good", " after "),
        ("tired", "weights after 12 steps differs: "),
        ("worn", "rounding alone may move it by "),
    ],
)
def test_who_stops_training_is_no_row_of_times(name, reason, long_course, monkeypatch):
    """Each passes the steps that have a truth, and has nothing to do in the others, in all calls or in some."""
    monkeypatch.setattr("parity.bench.race.round_steps", lambda *_, **__: 12)
    _, (row,) = race(named([f"{PLACE}:{name}"]), long_course, lambda _: None)
    assert (row.outcome, row.seconds) == ("differs", ())
    assert reason in row.reason


def test_pieces_that_take_too_long_are_a_reason(long_course):
    """Of a contestant that stops in the steps that its calls are given: so many steps that none can judge them."""
    course = replace(long_course, trial=replace(long_course.trial, timeout=10.0, round_seconds=0.5))
    _, (row,) = race(named([f"{PLACE}:stops_late"]), course, lambda _: None)
    assert (row.outcome, row.seconds) == ("failed", ())
    assert "steps, run in calls of 3, took longer than 10 s" in row.reason


@pytest.mark.parametrize("name", ["honest", "restless"])
def test_who_trains_to_the_end_is_timed(name, long_course, monkeypatch):
    """Also who rounds otherwise in each call."""
    monkeypatch.setattr("parity.bench.race.round_steps", lambda *_, **__: 12)
    _, (row,) = race(named([f"{PLACE}:{name}"]), long_course, lambda _: None)
    assert row.outcome == "timed", row.reason
    assert row.steps == 12


@pytest.fixture
def long_course(small):
    """Whose timed calls have more steps than the truth."""
    truth = true_run(initial_weights(0), SGD(), small.train_images, small.train_labels, batch_size=1, seed=0, steps=FEW)
    trial = Trial(**{**_fields(QUICK), "batch_sizes": (1,), "round_seconds": 0.3})
    with shared(small.train_images, small.train_labels) as files:
        yield Course(trial=trial, dataset=small, files=files, truth=truth, dtype="float64", place="")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("lists", "weights() returned conv1.weight as list; return NumPy arrays"),
        ("texts", "weights() returned conv1.weight of dtype <U32; return floats"),
        ("complex_weights", "weights() returned conv1.weight of dtype complex128; return floats"),
        ("objects", "weights() returned conv1.weight of dtype object; return floats"),
        ("no_mapping", "weights() raised TypeError"),
        ("complex_losses", "run() returned losses of dtype complex128; return floats"),
        ("text_losses", "run() returned losses of dtype <U"),
    ],
)
def test_a_malformed_answer_is_its_row(name, part, small):
    truth = true_run(initial_weights(0), SGD(), small.train_images, small.train_labels, batch_size=2, seed=0)
    with shared(small.train_images, small.train_labels) as files:
        course = Course(trial=QUICK, dataset=small, files=files, truth=truth, dtype="float64", place="")
        _, (row,) = race(named([f"{PLACE}:{name}"]), course, lambda _: None)
    assert row.outcome == "failed"
    assert part in row.reason
    assert "\n" not in row.reason


def test_a_precision_that_a_contestant_has_not_is_its_row(small):
    trial = Trial(**{**_fields(QUICK), "dtypes": ("float32", "float64"), "batch_sizes": (1, 3)})
    report = benchmark(named([f"{PLACE}:honest"]), small, trial)
    found = [(cell.dtype, cell.batch_size, cell.rows[0].outcome) for cell in report.cells]
    assert found == [
        ("float32", 1, "failed"),
        ("float32", 3, "failed"),
        ("float64", 1, "timed"),
        ("float64", 3, "timed"),
    ]
    assert "the oracle computes in float64 only" in report.cells[0].rows[0].reason
    assert report.exit_code == 2


def test_a_gpu_that_only_some_have_is_not_chosen(small):
    trial = Trial(**{**_fields(QUICK), "device": "auto"})
    report = benchmark(named([f"{PLACE}:on_gpu", f"{PLACE}:honest"]), small, trial)
    assert report.cells[0].device == "cpu"


@pytest.mark.parametrize(("device", "chosen"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_what_nobody_asked_for_has_no_say_in_the_device(device, chosen, small):
    """The reference step, which has no GPU, is added by default: two contestants that have one are timed there."""
    unasked = Entrant(label="reference", name=f"{PLACE}:honest", unasked=True)
    entrants = (*named([f"{PLACE}:on_gpu"] * 2), unasked)
    cell = benchmark(entrants, small, Trial(**{**_fields(QUICK), "device": device})).cells[0]
    assert cell.device == chosen
    assert [row.outcome for row in cell.rows] == ["timed"] * (3 if chosen == "cpu" else 2)


def test_a_batch_larger_than_the_set_is_refused(small):
    with pytest.raises(InputError, match="batch_sizes 103: the training set has 102 images; give 1 to 102"):
        benchmark(named([f"{PLACE}:honest"]), small, Trial(batch_sizes=(103,)))


def test_images_that_say_nothing_are_refused_before_anything_is_timed(small, monkeypatch):
    monkeypatch.setattr("parity.bench.benchmark.true_run", _only_of_two)
    monkeypatch.setattr("parity.bench.benchmark.race", lambda *_: pytest.fail("something was timed"))
    with pytest.raises(InputError, match="nothing at 3"):
        benchmark(named([f"{PLACE}:honest"]), small, Trial(**{**_fields(QUICK), "batch_sizes": (2, 3)}))


def _only_of_two(*_, batch_size, **__):
    if batch_size == 3:
        raise InputError("data", "images", "nothing at 3", "use others")


def test_growth_is_measured_with_what_fails_beside(small):
    so_far = []
    entrants = named([f"{PLACE}:honest", f"{PLACE}:raises"])
    found = measure_scaling(entrants, small, QUICK, axes=("data",), on_report=so_far.append)
    assert so_far == [found]
    assert [len(point.rounds) for point in found.curves[0].points] == [QUICK.rounds] * 4
    assert found.load > 0
    honest, raises = found.curves
    assert [point.x for point in honest.points] == [100, 1_000, 10_000, 40_000]
    assert all(point.seconds > 0 for point in honest.points)
    assert honest.sentence.startswith(f"{PLACE}:honest: a step takes ")
    assert raises.reason == "at 100 images in the data set: run() raised RuntimeError: its own fault"
    assert found.exit_code == 2


def test_growth_of_one_that_is_named_twice_is_measured_in_two_processes():
    """So that neither has the other's memory, compiled code or failures."""
    spots = _spots("batch", named([f"{PLACE}:honest"] * 2), "float64")
    assert len({spot.process for spot in spots}) == 2


@pytest.mark.parametrize("measure", [lockstep_seconds, recording_seconds])
def test_both_ways_are_timed_in_every_round(measure, small):
    names = ("tests.fakes:honest", "tests.fakes:honest")
    found = measure(names=names, dataset=small, rounds=3, device="cpu", steps=60)
    assert {name: len(values) for name, values in found.items()} == {"with": 3, "alone": 3}
    assert min(min(values) for values in found.values()) > 0


def test_the_ensemble_is_trained_beside_where_its_cost_is_asked_for(small, monkeypatch):
    asked = []
    monkeypatch.setattr("parity.bench.own_cost.train", lambda *_, ensemble, **__: asked.append(ensemble))
    names = ("tests.fakes:honest", "tests.fakes:honest")
    for ensemble in (0, ENSEMBLE):
        lockstep_seconds(names=names, dataset=small, rounds=1, device="cpu", steps=50, ensemble=ensemble)
    assert asked == [0, 0, ENSEMBLE, ENSEMBLE]  # one call of each compiles


def test_the_ensemble_is_the_one_of_parity_run():
    (option,) = [p for p in cli.commands["run"].params if p.name == "ensemble"]
    assert option.default == ENSEMBLE


def test_a_run_holds_as_much_for_each_step_as_the_bar_counts(small):
    """Of the CNN: two losses a step, and what the comparison of the states leaves after each chunk."""
    sides = tuple(Side(name=name, implementation=resolve("parity.oracle")) for name in "ab")
    settings = Settings(epochs=1, batch_size=1, steps=100, dtype="float64", device="cpu")
    gap = train(sides, small, settings, initial_weights(0), evaluate=False).gaps[-1]
    assert len(gap.tensors) == 20
    each = 2 * np.float32().nbytes + _size(gap) / CHUNK
    assert KEPT / 2 < each < 2 * KEPT  # twice is what the bar allows
    assert FLAT_BAR < 4 * KEPT


def _size(thing):
    """Bytes of an object and of what it holds, but for names, which all share; at most, since keys are shared too."""
    if isinstance(thing, str | type(None)):
        return 0
    parts = (
        [*thing.keys(), *thing.values()] if isinstance(thing, dict) else list(getattr(thing, "__dict__", {}).values())
    )
    own = sys.getsizeof(thing) + (sys.getsizeof(thing.__dict__) if hasattr(thing, "__dict__") else 0)
    return own + sum(map(_size, parts))


def test_the_peaks_of_runs_are_read(small):
    """Of runs that hold a megabyte for each step, in a process that has held little yet."""
    with Process("tests.bench.test_benchmark:hungry_peaks", threads=1) as process:
        peaks = process.ask("measure", timeout=QUICK.timeout, dataset=small)
    # Room that was free before may take 20 MB of it; a shorter run later needs nothing new but a few pages.
    assert 80e6 < peaks[1] - peaks[0] < 100e6
    assert peaks[2] - peaks[1] < 5e6


def hungry_peaks(*, dataset):
    def train(_sides, _dataset, settings, _weights, *, evaluate):
        assert not evaluate
        np.ones(settings.steps * 10**6, np.uint8)

    with mock.patch("parity.bench.own_cost.train", train):
        names = ("tests.fakes:honest", "tests.fakes:honest")
        return peak_bytes(names=names, dataset=dataset, lengths=(10, 100, 10), device="cpu")


@pytest.mark.parametrize(
    ("arguments", "limit", "reason"),
    [
        (("check", "nobody", "nobody"), 120.0, "parity check nobody nobody ended with exit code 2: parity: "),
        (("--help",), 1e-3, "parity --help: no end within 0.001 s"),
    ],
)
def test_a_command_that_fails_is_a_line(arguments, limit, reason):
    with pytest.raises(ContestantError) as caught:
        command_seconds(arguments=arguments, limit=limit)
    assert str(caught.value).startswith(reason)


def test_a_command_is_timed_on_the_trials_cores(tmp_path, monkeypatch):
    """By an implementation that says where it is imported, and fails."""
    code = "import os; raise RuntimeError(f'{len(os.sched_getaffinity(0))} {os.environ[\"NUMBA_NUM_THREADS\"]}')"
    (tmp_path / "says_where.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "7")
    with pytest.raises(ContestantError, match="RuntimeError: 1 1"):
        _command_seconds(QUICK, "check", "says_where", "says_where")


def _fields(trial):
    return {name: getattr(trial, name) for name in trial.__dataclass_fields__}
