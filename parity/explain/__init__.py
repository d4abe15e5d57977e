"""Why two sides differ: fit, then simulate.

Each stage of a recorded step is predicted from what the same side recorded before it. Where the prediction fails, the
faults that ports are known to have are fitted to what was recorded; those that predict it to rounding are its causes,
all of them where several do, and where none does the answer is "unknown". Start reading at side.py.
"""

from parity.explain.cause import Cause, Explanation, Unknown
from parity.explain.claims import explain_fast_path, explain_repeat, explain_score
from parity.explain.evaluation import explain_evaluation
from parity.explain.evidence import Evidence
from parity.explain.own_rules import identified_sgd
from parity.explain.precision import explain_precision
from parity.explain.programs import explain_programs
from parity.explain.side import explain_side
from parity.explain.start import explain_start
from parity.explain.states import explain_states

__all__ = [
    "Cause",
    "Evidence",
    "Explanation",
    "Unknown",
    "explain_evaluation",
    "explain_fast_path",
    "explain_precision",
    "explain_programs",
    "explain_repeat",
    "explain_score",
    "explain_side",
    "explain_start",
    "explain_states",
    "identified_sgd",
]
