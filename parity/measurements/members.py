"""What an ensemble costs beside as many single runs of its side, in the same process.

A trial takes both times, one after the other and in turns first: a machine that slows down slows both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from statistics import median

from parity.contract import initial_weights
from parity.data import Loader
from parity.lane import Lane
from parity.measurements.part import Bench, Conclusion, Part, Trial, pair_of, seconds_in_turns
from parity.problem import cnn_problem
from parity.running.ensemble import start_members
from parity.running.lockstep import CHUNK
from parity.settings import Settings, resolve_device

__all__ = ["MEMBERS"]

COUNT = 8
CHUNKS = 8
BAR = 0.6


def measure(bench: Bench, number: int) -> Trial:
    """Both times for the same steps, once everything has been compiled."""
    sides = pair_of(bench.sides)
    settings = Settings(device=bench.device)
    problem = cnn_problem(bench.dataset, initial_weights(0))
    lanes = [Lane(side=side) for side in sides]
    states = [lane.start(problem, settings, resolve_device(sides, bench.device)) for lane in lanes]
    members, nudged = start_members(lanes, states, problem, settings, COUNT)
    own = states[members.number]
    plans = list(
        islice(Loader(size=problem.size, batch_size=settings.batch_size, seed=0).plans(0, length=CHUNK), CHUNKS)
    )

    def alone() -> None:
        for plan in plans:
            members.lane.run(own, plan)

    def together() -> None:
        for plan in plans:
            members.advance(nudged, plan)

    timed: dict[str, Callable[[], None]] = {"one run": alone, "ensemble": together}
    for call in timed.values():
        call()
    seconds = seconds_in_turns(number, timed)
    return {
        "side": members.lane.side.name,
        "members": COUNT,
        "batch_size": settings.batch_size,
        "steps": sum(len(plan) for plan in plans),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "runs_paid": seconds["ensemble"] / seconds["one run"],
        "ratio": seconds["ensemble"] / (COUNT * seconds["one run"]),
    }


def conclude(trials: Sequence[Trial]) -> Conclusion:
    """The median ratio against the bar."""
    ratios = [trial["ratio"] for trial in trials]
    summary = {
        "repeats": len(trials),
        "median_ratio": median(ratios),
        "median_runs_paid": median(trial["runs_paid"] for trial in trials),
        "ratios": ratios,
        "bar": BAR,
    }
    return Conclusion(met=median(ratios) <= BAR, summary=summary)


MEMBERS = Part(
    name="ensemble",
    bar=f"an ensemble of {COUNT} costs at most {BAR} of {COUNT} single runs of its side, at batch 4",
    count=5,
    quick=range(3),
    reads=("sides", "device"),
    measure=measure,
    conclude=conclude,
)
