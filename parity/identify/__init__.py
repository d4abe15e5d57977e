"""From a recorded run alone, the update rule and its constants: fit, then simulate.

run.py             what was recorded, checked and laid side by side
accumulation.py    gradients that are accumulated over steps
rule.py            the form of a rule, as data
simulate.py        its parts, as recursions
replay.py          a rule held against a run, in units of rounding
fit.py             its constants, by least squares
candidates.py      which rules are tried, and from where
lion.py            the rule whose constants are seen through signs; lion_region.py what these leave
masks.py           which tensors decay
schedules.py       the name of a sequence of learning rates
search.py          the simplest rule that explains every step
equation.py        a rule as text; torch_code.py and optax_code.py as code, from constructors.py; torch_schedule.py
advice.py          what cannot be told apart, and what to record
identification.py  `identify`
files.py           runs as .npz files
"""

from parity.identify.files import load_run, save_run
from parity.identify.identification import Identification, Member, identify

__all__ = ["Identification", "Member", "identify", "load_run", "save_run"]
