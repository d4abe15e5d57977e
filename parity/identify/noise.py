"""How much rounding a run really has: the weights with which its constants are known best.

The units of `replay.py` are a bound: of what an update may have been through on its way. An element whose parameter is
near 0 has updates that are known far better, and tells most of an epsilon. Once a rule explains a run, what it leaves
shows the true share of each source of rounding:

    residual^2 = a (eps / 2 p_{t+1})^2 + b (eps / 2 u_t)^2 + c (eps / 2 max_{s <= t} u_s)^2,    a, b, c >= 0
"""

from __future__ import annotations

import numpy as np

from parity.identify.fit import Fit
from parity.identify.replay import Observed

__all__ = ["measured_noise"]

SMALLEST = 0.01
"""Of the bound: no residual is that much smaller than the rounding of its own parameter."""


def measured_noise(found: Fit) -> Observed:
    """The fit's elements with units that are one standard deviation of what the rule leaves."""
    # Here and not at the top: SciPy takes a fifth of a second to import, and other commands do without it.
    from scipy.optimize import nnls

    observed, run = found.observed, found.observed.run
    size = np.abs(observed.updates)
    sources = [np.abs(run.parameters[1:]), size, np.maximum.accumulate(size, axis=0)]
    shares = np.stack([np.square(run.eps / 2 * source / observed.units) for source in sources])
    seen = observed.weights > 0
    amounts, _ = nnls(shares[:, seen].T, np.square(found.replay.residual[seen]))
    variance = np.tensordot(amounts, shares, axes=1)
    return Observed(run, observed.units * np.sqrt(np.maximum(variance, SMALLEST**2)))
