"""`parity check`: a verdict on two programs from a few steps, in seconds. Start reading at check.py."""

from parity.checking.check import STEPS, Check, check, check_batches

__all__ = ["STEPS", "Check", "check", "check_batches"]
