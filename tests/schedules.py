"""Schedules to draw, and what torch's own schedulers make of them."""

from __future__ import annotations

from hypothesis import strategies as st

from parity.contract import (
    CosineAnnealingLR,
    ExponentialLR,
    InputError,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

COUNTS = 200
"""No schedule that is drawn ends before."""

gammas = st.floats(0.5, 1.01)
simple = st.one_of(
    st.builds(StepLR, step_size=st.integers(1, 300), gamma=gammas),
    st.builds(MultiStepLR, milestones=st.lists(st.integers(0, 220), max_size=6).map(tuple), gamma=gammas),
    st.builds(ExponentialLR, gamma=st.floats(0.9, 1.01)),
    st.builds(
        LinearLR, start_factor=st.floats(1e-3, 1.0), end_factor=st.floats(0.0, 1.0), total_iters=st.integers(1, 300)
    ),
    st.builds(PolynomialLR, total_iters=st.integers(1, 300), power=st.floats(0.0, 4.0)),
    st.builds(CosineAnnealingLR, T_max=st.integers(1, 300), eta_min=st.floats(0.0, 0.01)),
)


@st.composite
def one_cycles(draw):
    arguments = {
        "max_lr": draw(st.floats(1e-3, 0.1)),
        "total_steps": draw(st.integers(COUNTS, 300)),
        "pct_start": draw(st.floats(0.0, 1.0)),
        "anneal_strategy": draw(st.sampled_from(["cos", "linear"])),
        "cycle_momentum": draw(st.booleans()),
        "base_momentum": draw(st.floats(0.1, 0.95)),
        "max_momentum": draw(st.floats(0.1, 0.95)),
        "three_phase": draw(st.booleans()),
    }
    try:
        return OneCycleLR(**arguments)
    except InputError:  # a phase without length
        return OneCycleLR(**arguments | {"pct_start": 0.3})


@st.composite
def sequences(draw):
    parts = draw(st.lists(simple, min_size=1, max_size=3))
    rising = st.lists(st.integers(1, 150), min_size=len(parts) - 1, max_size=len(parts) - 1, unique=True)
    return SequentialLR(schedules=tuple(parts), milestones=tuple(sorted(draw(rising))))


@st.composite
def schedules(draw):
    """Any schedule, per step or per so many steps."""
    schedule = draw(simple | one_cycles() | sequences())
    arguments = {name: getattr(schedule, name) for name in schedule.__dataclass_fields__ if name != "kind"}
    return type(schedule)(**arguments | {"every": draw(st.sampled_from([1, 1, 2, 7]))})
