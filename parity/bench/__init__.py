"""How fast programs train the CNN: judged, then timed in turns, beside what the machine can do."""

from parity.bench.benchmark import benchmark
from parity.bench.changes import Change, changes, same_machine
from parity.bench.contestants import PEERS, Entrant, absent_peers, chosen_peers, named, with_reference
from parity.bench.growth import Growth
from parity.bench.interval import Interval, median_interval
from parity.bench.limits import Limits
from parity.bench.own_cost import Cost, CostReport, measure_costs
from parity.bench.report import DIFFERS, FAILED, FORMAT, TIMED, BenchReport, Cell, Row, read_report
from parity.bench.scaling import AXES, GrowthCurve, ScalingReport, measure_scaling
from parity.bench.trial import Trial

__all__ = [
    "AXES",
    "DIFFERS",
    "FAILED",
    "FORMAT",
    "PEERS",
    "TIMED",
    "BenchReport",
    "Cell",
    "Change",
    "Cost",
    "CostReport",
    "Entrant",
    "Growth",
    "GrowthCurve",
    "Interval",
    "Limits",
    "Row",
    "ScalingReport",
    "Trial",
    "absent_peers",
    "benchmark",
    "changes",
    "chosen_peers",
    "measure_costs",
    "measure_scaling",
    "median_interval",
    "named",
    "read_report",
    "same_machine",
    "with_reference",
]
