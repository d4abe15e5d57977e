"""From losses, tensors and predictions to measurements and a verdict: pure functions."""

from parity.compare.accuracy import accuracy, accuracy_per_class, agreement, predictions
from parity.compare.detail import Detail, Element, tensor_detail
from parity.compare.envelope import FACTOR, Distribution, Spread, compare_distribution, envelope
from parity.compare.finding import Blame, Finding, formula_finding, precision_finding, vacuous_finding
from parity.compare.flips import Flip, find_flips
from parity.compare.formula import Rung, compare_formula, first_break, first_unproved
from parity.compare.measure import Gap, gaps, largest, largest_gap, loss_differences, momentum_gaps, relative_difference
from parity.compare.null import nudge
from parity.compare.pattern import describe_difference
from parity.compare.rounding import Errors, Rounding, Trials, judge_rounding, measure_rounding
from parity.compare.stages import Stage, difference_at, in_order_of, stage_tensors
from parity.compare.verdict import BOUND, JUDGED_STEPS, Outcome, StateGap, Verdict, judge

__all__ = [
    "BOUND",
    "FACTOR",
    "JUDGED_STEPS",
    "Blame",
    "Detail",
    "Distribution",
    "Element",
    "Errors",
    "Finding",
    "Flip",
    "Gap",
    "Outcome",
    "Rounding",
    "Rung",
    "Spread",
    "Stage",
    "StateGap",
    "Trials",
    "Verdict",
    "accuracy",
    "accuracy_per_class",
    "agreement",
    "compare_distribution",
    "compare_formula",
    "describe_difference",
    "difference_at",
    "envelope",
    "find_flips",
    "first_break",
    "first_unproved",
    "formula_finding",
    "gaps",
    "in_order_of",
    "judge",
    "judge_rounding",
    "largest",
    "largest_gap",
    "loss_differences",
    "measure_rounding",
    "momentum_gaps",
    "nudge",
    "precision_finding",
    "predictions",
    "relative_difference",
    "stage_tensors",
    "tensor_detail",
    "vacuous_finding",
]
