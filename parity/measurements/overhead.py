"""What lockstep costs over training the same two sides alone, chunk by chunk, in the same process.

A trial takes both times, one after the other and in turns first: a machine that slows down slows both. Starting the
sides and placing the data belongs to both. What lockstep adds: comparing the states after every chunk, and going back
where the sides part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from parity.contract import initial_weights
from parity.data import Loader
from parity.lane import Lane
from parity.measurements.part import Bench, Conclusion, Part, Trial, pair_of, seconds_in_turns
from parity.pair import start_pair
from parity.problem import cnn_problem
from parity.running.history import Run
from parity.running.lockstep import CHUNK, train
from parity.settings import Settings, Side, resolve_device

__all__ = ["OVERHEAD"]

BAR = 1.10


def measure(bench: Bench, number: int) -> Trial:
    """Both times for the same steps, once everything has been compiled."""
    sides = pair_of(bench.sides)
    _warm_up(bench, sides)
    runs: list[Run] = []
    timed: dict[str, Callable[[], object]] = {
        "lockstep": lambda: runs.append(_together(bench, sides, bench.steps)),
        "alone": lambda: _alone(bench, sides, bench.steps),
    }
    seconds = seconds_in_turns(number, timed)
    parting = runs[0].parting
    return {
        "steps": runs[0].steps,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "ratio": seconds["lockstep"] / seconds["alone"],
        "parting": parting.step if parting else None,
    }


def _warm_up(bench: Bench, sides: tuple[Side, Side]) -> None:
    """Let the sides compile what a run may need: chunks of all lengths, and the observed steps of a way back."""
    _together(bench, sides, 2 * CHUNK)
    _alone(bench, sides, 2 * CHUNK)
    problem = cnn_problem(bench.dataset, initial_weights(0))
    rows = next(Loader(size=problem.size, batch_size=Settings().batch_size, seed=0).plans(0))[:1]
    device = resolve_device(sides, bench.device)
    start_pair(sides, problem, Settings(), device).run(rows).observe(rows[0])
    start_pair(sides, problem, Settings(dtype="float64"), device).observe(rows[0])


def _together(bench: Bench, sides: tuple[Side, Side], steps: int | None) -> Run:
    settings = Settings(epochs=1, steps=steps, device=bench.device)
    return train(sides, bench.dataset, settings, initial_weights(0), evaluate=False)


def _alone(bench: Bench, sides: tuple[Side, Side], steps: int | None) -> None:
    """The same chunks on the same sides, with nothing kept but their states."""
    settings = Settings(epochs=1, steps=steps, device=bench.device)
    loader = Loader(size=len(bench.dataset.train_labels), batch_size=settings.batch_size, seed=settings.seed)
    problem = cnn_problem(bench.dataset, initial_weights(0))
    lanes = [Lane(side=side) for side in sides]
    states = [lane.start(problem, settings, resolve_device(sides, bench.device)) for lane in lanes]
    left = min(steps or loader.steps_per_epoch, loader.steps_per_epoch)
    for plan in loader.plans(0, length=CHUNK):
        if left <= 0:
            return
        states = [lane.run(state, plan[:left])[0] for lane, state in zip(lanes, states, strict=True)]
        left -= len(plan)


def conclude(trials: Sequence[Trial]) -> Conclusion:
    """The median ratio against the bar."""
    ratios = [trial["ratio"] for trial in trials]
    summary = {
        "repeats": len(trials),
        "steps": min(trial["steps"] for trial in trials),
        "median_ratio": median(ratios),
        "ratios": ratios,
        "bar": BAR,
    }
    return Conclusion(met=median(ratios) <= BAR, summary=summary)


OVERHEAD = Part(
    name="lockstep",
    bar="lockstep costs at most 10 % over training the two sides alone, chunk by chunk, in the same process",
    count=5,
    quick=range(3),
    reads=("sides", "steps", "device"),
    measure=measure,
    conclude=conclude,
)
