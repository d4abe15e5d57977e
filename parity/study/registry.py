"""All experiments by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from parity.contract import InputError, nearest_name
from parity.study import arguments, batch, dampening, decay, forms, nesterov, schedules
from parity.study.experiment import Experiment

__all__ = ["EXPERIMENTS", "experiments_named"]

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        experiment.name: experiment
        for experiment in (
            *arguments.EXPERIMENTS,
            forms.EXPERIMENT,
            dampening.EXPERIMENT,
            nesterov.EXPERIMENT,
            decay.EXPERIMENT,
            schedules.EXPERIMENT,
            batch.EXPERIMENT,
        )
    }
)


def experiments_named(names: Iterable[str]) -> tuple[Experiment, ...]:
    """The experiments of these names, each once.

    Raises:
        InputError: there is none of a name; says which is nearest.
    """
    return tuple(_named(name) for name in dict.fromkeys(names))


def _named(name: str) -> Experiment:
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    fix = nearest_name(name, EXPERIMENTS, f"give one of: {', '.join(EXPERIMENTS)}", alone=True)
    raise InputError("experiment", name, "there is no such experiment", fix)
