"""`parity study`: named experiments on what an optimizer's arguments do, as figures and tables.

An experiment computes numbers and says what they mean; it draws nothing. Start reading at experiment.py (what one is
given and gives back), problems.py and rules.py (two-dimensional problems, and the forms that an update has in other
programs), then any experiment: arguments.py, forms.py, dampening.py, nesterov.py, decay.py, batch.py, schedules.py.
`parity.render.figure` draws.
"""

from parity.study.experiment import Bench, Curve, Experiment, Figure, Landscape, Outcome, Panel, Table
from parity.study.registry import EXPERIMENTS, experiments_named
from parity.study.report import Studied, StudyReport

__all__ = [
    "EXPERIMENTS",
    "Bench",
    "Curve",
    "Experiment",
    "Figure",
    "Landscape",
    "Outcome",
    "Panel",
    "Studied",
    "StudyReport",
    "Table",
    "experiments_named",
]
