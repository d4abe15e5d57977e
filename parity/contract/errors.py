"""The errors that a user sees: one line each, with the exit code that the command line ends with.

Exit codes: 0 match, 1 differs (or a loss stopped being finite), 2 bad input, 130 interrupted.
"""

from __future__ import annotations

__all__ = ["InputError", "NonFiniteLossError", "ParityError", "SideError"]


class ParityError(Exception):
    """Base of every error that this project raises on purpose; `exit_code` is the command line's."""

    exit_code = 2


class SideError(ParityError):
    """A side raised an exception or broke the protocol; `__cause__` has its traceback. Never a verdict."""


class NonFiniteLossError(ParityError):
    """A loss, or the outputs at the end, became NaN or infinite: training cannot go on."""

    exit_code = 1


class InputError(ParityError, ValueError):
    """Something the user gave cannot be used.

    Args:
        argument: the name of the argument, as in Python (`batch_size`); the command line shows its own
            spelling (`--batch-size`).
        value: what was received.
        problem: what is wrong with it.
        fix: what to do instead.

    It is a ValueError too, because that is what torch raises for the same arguments.

    >>> raise InputError("lr", -1.0, "Invalid learning rate: -1.0", "give a finite number, 0 or more")
    Traceback (most recent call last):
    parity.contract.errors.InputError: lr -1.0: Invalid learning rate: -1.0; give a finite number, 0 or more
    """

    def __init__(self, argument: str, value: object, problem: str, fix: str) -> None:
        self.argument = argument
        self.value = value
        self.problem = problem
        self.fix = fix
        super().__init__(self.line(argument))

    def line(self, argument: str) -> str:
        """The error as one line, with the argument under the name that this caller knows it by."""
        # A file name or an exception's text may hold line breaks; the user is promised one line.
        return " ".join(f"{argument} {self.value}: {self.problem}; {self.fix}".split())
