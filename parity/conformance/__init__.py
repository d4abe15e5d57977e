"""Does an implementation keep the protocol's promises? One named check for each, with one line on what is broken.

The promises are those of the docstrings in `parity.contract.implementation`. Every check starts anew from the same
weights and data, so that a broken promise shows in its own check; a check that would only repeat what another has
found is not run, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parity.conformance.formula import FORMULA
from parity.conformance.observing import OBSERVING
from parity.conformance.promise import BrokenPromiseError, Promise, Unoffered
from parity.conformance.running import RUNNING
from parity.conformance.states import STATES
from parity.conformance.subject import Subject, make_subject
from parity.contract import DTYPES, InputError, ParityError
from parity.settings import Side, resolve_device

__all__ = ["PROMISES", "START", "Conformance", "Result", "conformance"]

START = "start() takes the model's own weights, in float32 or float64"

PROMISES: tuple[Promise, ...] = (*STATES, *RUNNING, *OBSERVING, *FORMULA)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one check.

    Args:
        name: the promise.
        outcome: "passed", "failed" or "not run".
        detail: what is broken, or why it was not run; "" where it passed.
    """

    name: str
    outcome: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the promise was tested and kept."""
        return self.outcome == "passed"


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """What came of all checks.

    Args:
        name: the implementation's.
        device: where it was tested.
        dtypes: those that it takes; each check was made in all of them.
        results: in the order in which the checks were made.
    """

    name: str
    device: str
    dtypes: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """The broken promises."""
        return tuple(result for result in self.results if result.outcome == "failed")

    @property
    def passed(self) -> bool:
        """Whether no promise is broken, and some were tested."""
        return not self.failures and any(result.passed for result in self.results)

    def lines(self) -> Iterator[str]:
        """The broken promises, one line each, below a line that counts them."""
        tested = sum(result.outcome != "not run" for result in self.results)
        where = f"{', '.join(self.dtypes) or 'no dtype'} on {self.device}"
        yield f"{self.name} breaks {len(self.failures)} of {tested} promises ({where})"
        for result in self.failures:
            yield f"  {result.name}: {result.detail}"


def conformance(side: Side, *, device: str = "auto") -> Conformance:
    """Check every promise.

    Args:
        side: the implementation: the CNN, or a program with its own data.
        device: "auto", or one of its devices.

    Raises:
        InputError: it does not have this device.
    """
    try:
        chosen = resolve_device([side], device)
    except InputError:
        raise
    except (ParityError, TypeError):  # its devices() is broken, which is the first check's to say
        chosen = "cpu"
    subjects, start = _started(side, chosen)
    results = [start]
    unsure = set() if start.passed else {START}  # what is broken, and what relies on that
    for promise in PROMISES:
        needed = next((name for name in (START, *promise.after) if name in unsure), None)
        if needed:
            result = Result(name=promise.name, outcome="not run", detail=f"it relies on: {needed}")
        else:
            result = _check(promise, [subject for subject in subjects if subject.dtype in promise.dtypes])
        if needed or result.outcome == "failed":
            unsure.add(promise.name)
        results.append(result)
    dtypes = tuple(subject.dtype for subject in subjects)
    return Conformance(name=side.name, device=chosen, dtypes=dtypes, results=tuple(results))


def _started(side: Side, device: str) -> tuple[list[Subject], Result]:
    """The implementation in each dtype that it takes: it may refuse one, by InputError, but not both."""
    subjects, refusals = [], []
    for dtype in DTYPES:
        try:
            subject = make_subject(side, device=device, dtype=dtype)
            subject.start()
        except ParityError as error:
            if not (isinstance(error, InputError) and error.argument == "dtype"):
                return [], Result(name=START, outcome="failed", detail=f"{dtype}: {_line(error)}")
            refusals.append(_line(error))
        else:
            subjects.append(subject)
    if not subjects:
        return [], Result(name=START, outcome="failed", detail=f"it takes neither: {'; '.join(refusals)}")
    return subjects, Result(name=START, outcome="passed")


def _check(promise: Promise, subjects: Sequence[Subject]) -> Result:
    if not subjects:
        return Result(name=promise.name, outcome="not run", detail=f"it takes no {' or '.join(promise.dtypes)}")
    for subject in subjects:
        try:
            promise.check(subject)
        except Unoffered as reason:
            return Result(name=promise.name, outcome="not run", detail=str(reason))
        except (BrokenPromiseError, ParityError) as error:
            return Result(name=promise.name, outcome="failed", detail=f"{subject.dtype}: {_line(error)}")
    return Result(name=promise.name, outcome="passed")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
