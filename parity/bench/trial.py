"""What a benchmark is given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from parity.bench.interval import LEAST_ROUNDS
from parity.contract import PRECISIONS, SGD, InputError, nearest_name
from parity.environment import usable_cores

__all__ = ["DEVICES", "Trial"]

DEVICES = ("auto", "cpu", "cuda")
LONGEST_WAIT = 2e6
"""Seconds: the system counts the milliseconds of a wait in 32 bits."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that decides what is timed, but the data and the contestants.

    Args:
        sgd: hyper-parameters.
        batch_sizes: each is a cell of its own, in every precision.
        dtypes: "float32", "float64", or "tf32" where the device is "cuda".
        device: "auto" is CUDA where every contestant has it.
        threads: that each contestant may use, on as many cores; None for all.
        rounds: of each cell, at least 5.
        round_seconds: about how long a contestant's call takes in each round.
        timeout: seconds that a contestant may take for any one call, up to 2,000,000.
        seed: of weights, images and the order of turns.

    Raises:
        InputError: a value is out of range.
    """

    sgd: SGD = field(default_factory=SGD)
    batch_sizes: tuple[int, ...] = (4, 32, 128)
    dtypes: tuple[str, ...] = ("float32",)
    device: str = "auto"
    threads: int | None = None
    rounds: int = 15
    round_seconds: float = 0.5
    timeout: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        cores = usable_cores()
        for size in self.batch_sizes or (0,):
            _require("batch_sizes", size, size >= 1, "give sizes from 1 on, with commas between them")
        for dtype in self.dtypes:
            known = nearest_name(dtype, PRECISIONS, f"give one of: {', '.join(PRECISIONS)}")
            _require("dtype", dtype, dtype in PRECISIONS, known)
        fix = nearest_name(self.device, DEVICES, f"give one of: {', '.join(DEVICES)}")
        _require("device", self.device, self.device in DEVICES, fix)
        if "tf32" in self.dtypes and self.device != "cuda":
            raise InputError("dtype", "tf32", "only a GPU has it", "give --device cuda too, or float32")
        within = self.threads is None or 1 <= self.threads <= cores
        _require("threads", self.threads, within, f"give 1 to {cores}, the cores that can be used here")
        fix = f"give {LEAST_ROUNDS} or more: fewer have no interval of 95 %"
        _require("rounds", self.rounds, self.rounds >= LEAST_ROUNDS, fix)
        finite = math.isfinite(self.round_seconds)
        _require("round_seconds", self.round_seconds, finite and self.round_seconds > 0, "give seconds above 0")
        within = 0 < self.timeout <= LONGEST_WAIT
        _require("timeout", self.timeout, within, f"give seconds above 0, up to {LONGEST_WAIT:,.0f}")
        _require("seed", self.seed, self.seed >= 0, "give 0 or more")

    @property
    def cores(self) -> int:
        """How many cores each contestant may use."""
        return self.threads or usable_cores()


def _require(argument: str, value: object, fine: bool, fix: str) -> None:
    if not fine:
        raise InputError(argument, value, "it is out of range", fix)
