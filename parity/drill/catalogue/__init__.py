"""The catalogue: what goes wrong when training code is ported, each mistake as one small change.

Three tuples: `CATALOGUE`, faults with names; `OUTSIDE`, faults that have none, to measure what is made of them; and
`BENIGN`, changes that are no faults.
"""

from parity.drill.catalogue.benign import BENIGN
from parity.drill.catalogue.data import DATA
from parity.drill.catalogue.model import MODEL
from parity.drill.catalogue.optimizer import OPTIMIZER
from parity.drill.catalogue.outside import OUTSIDE
from parity.drill.catalogue.reports import REPORTS
from parity.drill.catalogue.schedule import SCHEDULE
from parity.drill.catalogue.weights import WEIGHTS

__all__ = ["BENIGN", "CATALOGUE", "OUTSIDE"]

CATALOGUE = (*DATA, *WEIGHTS, *MODEL, *OPTIMIZER, *SCHEDULE, *REPORTS)
