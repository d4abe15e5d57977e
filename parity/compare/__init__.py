"""From losses, tensors and predictions to measurements and a verdict: pure functions."""

from parity.compare.accuracy import accuracy, accuracy_per_class, agreement, predictions
from parity.compare.measure import Gap, largest_gap, loss_differences, momentum_gap, relative_difference
from parity.compare.verdict import BOUND, JUDGED_STEPS, Outcome, StateGap, Verdict, judge

__all__ = [
    "BOUND",
    "JUDGED_STEPS",
    "Gap",
    "Outcome",
    "StateGap",
    "Verdict",
    "accuracy",
    "accuracy_per_class",
    "agreement",
    "judge",
    "largest_gap",
    "loss_differences",
    "momentum_gap",
    "predictions",
    "relative_difference",
]
