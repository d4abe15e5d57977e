"""Plants one fault after the other, checks the program that has it beside an honest one, and scores what was found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from parity.checking import Check, check, check_batches
from parity.contract import SGD, InputError, SelfContained, SideError, initial_weights
from parity.contract.programs import program_data
from parity.data import Dataset, embedded_set
from parity.drill.fault import ANY, CNN, ORACLE, PRECISION, Benign, Fault, Host, Mutation, Probe
from parity.drill.score import Drilled, absent, score
from parity.drill.wrapped import Inapplicable
from parity.problem import Problem, cnn_problem
from parity.registry import resolve
from parity.settings import Settings, Side

__all__ = ["Subject", "drill", "planted", "subject_of"]

ORACLE_NAME = "parity.oracle"
DEFAULT_NAME = "torch_impl:eager"

TEST_ROWS = 22
"""Of the evaluation; not a multiple of the batch, so that means of unequal batches show."""

FEWEST_ROWS = 5

SEED = 0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """In what faults are planted, and beside what.

    Args:
        side: the program.
        partner: the honest program beside a copy of it that has a fault.
        twin: the honest program beside a copy that has a benign change, and beside programs that stand for a fault by
            themselves: it need compile nothing, and should compute in float32 too.
        dataset: the CNN's; None for a program that brings its own data.
        whole: whether faults are drilled too that cannot be planted in a given program.
    """

    side: Side
    partner: Side
    twin: Side
    dataset: Dataset | None
    whole: bool

    def takes(self, fault: Fault | Benign) -> bool:
        """Whether the fault can be planted here at all."""
        if self.dataset is None:
            return fault.scope == ANY or (isinstance(fault, Fault) and fault.own is not None)
        return self.whole or fault.scope in (ANY, CNN)

    def plants(self, fault: Fault | Benign) -> Mutation:
        """What makes the program with the fault."""
        own = fault.own if isinstance(fault, Fault) and self.dataset is None else None
        return own or fault.plant

    def reason(self, fault: Fault | Benign) -> str:
        """Why a fault that it does not take has no place here."""
        needs = {
            ORACLE: "it lies inside the CNN's model, and is planted in the oracle: drill without IMPLEMENTATION",
            PRECISION: "a program of its own stands for it: drill without IMPLEMENTATION",
        }
        return needs.get(fault.scope, "it needs the CNN's tensors or optimizer, and this program brings its own")

    def beside(self, fault: Fault | Benign) -> Side:
        """The honest program for this fault."""
        return self.partner if isinstance(fault, Fault) and fault.scope in (ANY, CNN) else self.twin

    def problem(self, probe: Probe) -> tuple[Problem, Settings]:
        """What the probe asks for, on this program's data."""
        if self.dataset is None:
            return _own_problem(self.side, probe)
        return _cnn_problem(self.dataset, probe)


def subject_of(
    name: str | None = None, *, partner: str | None = None, dataset: Dataset | None = None, whole: bool = False
) -> Subject:
    """The subject of that name.

    Args:
        name: an implementation, MODULE or MODULE:ATTRIBUTE; None for all faults, on the eager torch side.
        partner: the honest one beside it; None for the oracle, or for the program itself where it brings its own data.
        dataset: images for the CNN; None for the embedded set.
        whole: whether to drill the faults inside the model too, beside this program, also where a name is given.

    Raises:
        InputError: a name does not resolve, or a program with its own data is given images or a partner.
    """
    side = _side(name or DEFAULT_NAME)
    if isinstance(side.implementation, SelfContained):
        for argument, value in (("partner", partner), ("data", dataset)):
            if value is not None:
                raise InputError(argument, "given", f"{side.name} brings its own data", "leave it out")
        return Subject(side=side, partner=_honest(side), twin=_honest(side), dataset=None, whole=False)
    beside = _side(partner or ORACLE_NAME)
    if isinstance(beside.implementation, SelfContained):
        raise InputError("partner", partner, f"it brings its own data, {side.name} does not", "name one of the CNN's")
    return Subject(
        side=side,
        partner=_honest(beside) if beside.name == side.name else beside,
        twin=_honest(side),
        dataset=dataset or embedded_set(),
        whole=whole or name is None,
    )


def _side(name: str) -> Side:
    return Side(name=name, implementation=resolve(name))


def _honest(side: Side) -> Side:
    """The same program under a name of its own, so that a verdict says which of the two it means."""
    return replace(side, name=f"{side.name} (honest)")


def drill(
    faults: Sequence[Fault | Benign],
    subject: Subject,
    *,
    group: str,
    sides: Sequence[str] = ("b",),
    device: str = "auto",
    listed: bool = False,
) -> Iterator[Drilled]:
    """Every fault on every side, one result after the other.

    Args:
        faults: of one group.
        subject: in what they are planted; those that it cannot take are passed over, or listed.
        group: "catalogue", "outside" or "benign", for the results.
        sides: "a", "b" or both: where the program with the fault stands.
        device: "auto", "cpu" or "cuda".
        listed: whether faults that have no place are results too, with the reason.

    Raises:
        InputError: the subject cannot be drilled, because it has too few rows for example.
        SideError: a side broke, fault or not.
    """
    for fault in faults:
        for side in sides if subject.takes(fault) else ():
            yield _drill_one(fault, subject, group=group, side=side, device=device)
        for side in sides if listed and not subject.takes(fault) else ():
            yield absent(fault, group=group, side=side, reason=subject.reason(fault))


def _drill_one(fault: Fault | Benign, subject: Subject, *, group: str, side: str, device: str) -> Drilled:
    begin = time.perf_counter()
    try:
        _, checked = planted(fault, subject, side=side, device=device)
    except Inapplicable as reason:
        return absent(fault, group=group, side=side, reason=str(reason))
    return score(fault, checked, group=group, side=side, seconds=time.perf_counter() - begin)


def planted(
    fault: Fault | Benign, subject: Subject, *, side: str, device: str = "auto"
) -> tuple[tuple[Side, Side], Check]:
    """Both sides, one of them with the fault, and the whole check of them.

    Raises:
        Inapplicable: the program has no place for the fault.
    """
    problem, settings = _asked(fault, subject, device)
    pair = _pair(fault, subject, problem, settings, side)
    return pair, check(pair, problem, settings, steps=fault.probe.steps)


def _asked(fault: Fault | Benign, subject: Subject, device: str) -> tuple[Problem, Settings]:
    problem, settings = subject.problem(fault.probe)
    return problem, replace(settings, device=device)


def _pair(
    fault: Fault | Benign, subject: Subject, problem: Problem, settings: Settings, side: str
) -> tuple[Side, Side]:
    """The program with the fault, and an honest one; `side` is where the first stands."""
    host = Host(
        implementation=subject.side.implementation,
        problem=problem,
        settings=settings,
        batches=check_batches(problem.size, settings, fault.probe.steps),
        steps_per_epoch=-(-problem.size // settings.batch_size),
    )
    wrong = Side(name=f"{subject.side.name} with {fault.key}", implementation=subject.plants(fault)(host))
    honest = subject.beside(fault)
    return (wrong, honest) if side == "a" else (honest, wrong)


def _cnn_problem(dataset: Dataset, probe: Probe) -> tuple[Problem, Settings]:
    """The first images, and weights of the probe's size."""
    if len(dataset.train_labels) < probe.images or len(dataset.test_labels) < TEST_ROWS:
        problem = f"a drill needs {probe.images} training and {TEST_ROWS} test images"
        raise InputError("data", dataset.name, problem, "give more")
    few = replace(
        dataset,
        train_images=dataset.train_images[: probe.images],
        train_labels=dataset.train_labels[: probe.images],
        test_images=dataset.test_images[:TEST_ROWS],
        test_labels=dataset.test_labels[:TEST_ROWS],
    )
    scale = probe.weights_scale
    weights = {name: (value * scale).astype(value.dtype) for name, value in initial_weights(SEED).items()}
    return cnn_problem(few, weights), Settings(sgd=probe.sgd, batch_size=probe.batch_size, seed=SEED)


def _own_problem(side: Side, probe: Probe) -> tuple[Problem, Settings]:
    """The program's own weights and first rows, in epochs of three steps; its optimizer is its own too."""
    answer = side.call("example")
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise SideError(f"{side.name}: example() did not return tensors by name and a data set")
    weights, data = answer[0], program_data(answer[1])
    if len(data[0]) < FEWEST_ROWS:
        problem = f"its data have {len(data[0])} rows"
        raise InputError("implementation", side.name, problem, f"give it {FEWEST_ROWS} or more, for short epochs")
    rows = probe.images if len(data[0]) >= probe.images else FEWEST_ROWS
    some = tuple(array[:rows] for array in data)
    batch_size = -(-rows // 3)
    return Problem(train=some, test=some, weights=weights), Settings(sgd=SGD(), batch_size=batch_size, seed=SEED)
