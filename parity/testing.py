"""For tests: `assert_parity` compares two programs, `check_implementation` tests one against the protocol.

from parity.testing import assert_parity, check_implementation

def test_the_port():
    assert_parity("torch_impl", "mypackage.port:impl")

def test_the_port_keeps_the_protocol():
    check_implementation("mypackage.port:impl")
"""

from __future__ import annotations

from pathlib import Path

from parity.artifacts import announce
from parity.checking import STEPS, check
from parity.conformance import Conformance, conformance
from parity.contract import AnyImplementation, Weights
from parity.data import Dataset, check_writable, load_data
from parity.environment import describe_environment
from parity.prepare import prepare
from parity.render.check import check_lines
from parity.result import CheckReport, write_json
from parity.run import resolve_sides
from parity.settings import Settings

__all__ = ["ConformanceError", "DisparityError", "assert_parity", "check_implementation"]


class DisparityError(AssertionError):
    """Two programs do not match, or nothing could be judged; `report` has all that was compared.

    The message is what `parity check` prints: the table of stages, and the verdict as its last line.
    """

    def __init__(self, report: CheckReport) -> None:
        self.report = report
        super().__init__("\n".join(check_lines(report)))


class ConformanceError(AssertionError):
    """An implementation breaks promises of the protocol; `conformance` has all that was checked."""

    def __init__(self, conformance: Conformance) -> None:
        self.conformance = conformance
        super().__init__("\n".join(conformance.lines()))


def assert_parity(
    a: str | AnyImplementation,
    b: str | AnyImplementation,
    *,
    data: Dataset | str | None = None,
    weights: Weights | None = None,
    settings: Settings | None = None,
    steps: int = STEPS,
    report: Path | str | None = None,
) -> CheckReport:
    """Assert that two programs compute the same thing: `parity check` as an assertion.

    Args:
        a: an implementation, or its name, "module:attribute".
        b: the other.
        data: for the CNN: a data set, or what `parity.load_data` takes; None for the embedded set, which needs no
            download. Programs that bring their own data take none.
        weights: initial ones for the CNN; None to draw them from the seed.
        settings: batch size, seed, hyper-parameters and device; None for the defaults. The dtype is not used: a check
            is made in float64 and in float32.
        steps: how many to observe, at least one.
        report: a file to write the report to, as JSON, whatever the outcome; None for no file.

    Returns:
        What was compared.

    Raises:
        DisparityError: an AssertionError: they differ, or the comparison proves nothing.
        SideError: a side raised an exception or broke the protocol. That is no verdict.
        InputError: a side cannot start, or an argument does not fit.
    """
    __tracebackhide__ = True  # pytest: show the line that called
    if report is not None:
        check_writable(Path(report), argument="report")
    first, second = resolve_sides([a, b])
    settings = settings or Settings()
    dataset = load_data(data) if isinstance(data, str) else data
    prepared = prepare(first, second, dataset=dataset, weights=weights, settings=settings)
    checked = CheckReport(
        command=("assert_parity", first.name, second.name),
        environment=describe_environment(),
        data=prepared.data,
        settings=settings,
        names=(first.name, second.name),
        notes=prepared.notes,
        check=check(prepared.sides, prepared.problem, settings, steps=steps),
    )
    announce(checked)
    if report is not None:
        write_json(Path(report), checked)
    if checked.check.finding:
        raise DisparityError(checked)
    return checked


def check_implementation(implementation: str | AnyImplementation, *, device: str = "auto") -> Conformance:
    """Assert that an implementation keeps every promise of `parity.contract.Implementation`.

    Args:
        implementation: the object, or its name, "module:attribute"; the CNN, or a program with its own data.
        device: where to test it; "auto" for CUDA where it has that, else the CPU.

    Returns:
        What was checked.

    Raises:
        ConformanceError: an AssertionError that lists every broken promise by name.
        InputError: there is no such implementation, or it lacks a method.
    """
    __tracebackhide__ = True
    (side,) = resolve_sides([implementation])
    found = conformance(side, device=device)
    if not found.passed:
        raise ConformanceError(found)
    return found
