"""How fast programs train the CNN: judged, then timed in turns, beside what the machine can do."""

from parity.bench.benchmark import benchmark
from parity.bench.changes import Change, changes, same_machine
from parity.bench.contestants import PEERS, Entrant, absent_peers, chosen_peers, named, with_reference
from parity.bench.interval import Interval, median_interval
from parity.bench.limits import Limits
from parity.bench.report import DIFFERS, FAILED, FORMAT, TIMED, BenchReport, Cell, Row, read_report
from parity.bench.trial import Trial

__all__ = [
    "DIFFERS",
    "FAILED",
    "FORMAT",
    "PEERS",
    "TIMED",
    "BenchReport",
    "Cell",
    "Change",
    "Entrant",
    "Interval",
    "Limits",
    "Row",
    "Trial",
    "absent_peers",
    "benchmark",
    "changes",
    "chosen_peers",
    "median_interval",
    "named",
    "read_report",
    "same_machine",
    "with_reference",
]
