"""A rule as code that makes it: what torch's and optax' lines have in common. See torch_code.py and optax_code.py.

The names that the code takes as given are those of the recording: `params`, a dictionary of name -> tensor (torch) or
array (optax), all tensors of the run in it, the frozen ones too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from parity.identify.fit import UNSEEN
from parity.identify.rule import DECAY, Rule
from parity.identify.run import RecordedRun
from parity.identify.schedules import Schedule
from parity.identify.search import Found

__all__ = ["NOTHING", "Made"]

NOTHING = 1e-30
"""An epsilon that no root shows, in place of none at all: 0 / 0 is what an element without gradients would come to."""


@dataclass(frozen=True, eq=False)
class Made:
    """A rule that was found, as the constructors take it.

    Args:
        found: with its constants.
        run: whose updates it explains.
    """

    found: Found
    run: RecordedRun

    @property
    def rule(self) -> Rule:
        """Its form."""
        return self.found.rule

    @property
    def schedule(self) -> Schedule:
        """Of its learning rates."""
        return self.found.schedule

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Its constants, the decays aside."""
        constants = self.found.fit.constants
        return {name: float(np.asarray(value)) for name, value in constants.items() if name != DECAY}

    @property
    def trained(self) -> tuple[str, ...]:
        """The tensors that move; the optimizer knows of no other."""
        return self.found.fit.observed.run.names

    @property
    def frozen(self) -> list[str]:
        """The others of the run."""
        return [name for name in self.run.names if name not in self.trained]

    @cached_property
    def decays(self) -> dict[float, list[str]]:
        """The trained tensors by their decay, 0 for those without; empty for a rule without decay."""
        if self.rule.decay == "none":
            return {}
        values = np.broadcast_to(np.asarray(self.found.fit.constants[DECAY]), len(self.trained))
        groups: dict[float, list[str]] = {}
        for name, value in zip(self.trained, values.tolist(), strict=True):
            groups.setdefault(value, []).append(name)
        return groups

    @property
    def unseen(self) -> str:
        """Which constants are nothing but where the search began."""
        errors = self.found.fit.errors
        largest = {name: float(np.max(value)) for name, value in errors.items() if name != DECAY}
        names = [name for name, error in largest.items() if not error < UNSEEN]
        return f"this run does not show {', '.join(names)}" if names else ""
