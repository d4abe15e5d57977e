"""`parity drill`: plants faults in a copy of a program, and says which of them a check finds.

Start reading at fault.py (what a fault is), catalogue/ (all of them) and drill.py. A copy is the program inside a
wrapper (wrapped.py), or the oracle with other operations (operating.py); no program is changed itself.
"""

from parity.drill.catalogue import BENIGN, CATALOGUE, OUTSIDE
from parity.drill.drill import Subject, drill, subject_of
from parity.drill.fault import Benign, Fault, Probe
from parity.drill.score import Drilled, Rates, rates

__all__ = [
    "BENIGN",
    "CATALOGUE",
    "OUTSIDE",
    "Benign",
    "Drilled",
    "Fault",
    "Probe",
    "Rates",
    "Subject",
    "drill",
    "rates",
    "subject_of",
]
