"""The clock of the GPU's limits, with a clock that says what it should: the fastest calls count, not their mean."""

from types import SimpleNamespace

import pytest
import torch

from torch_impl import limits


@pytest.mark.parametrize(("together", "seconds"), [(1, 2e-3), (4, 0.5e-3)])
def test_the_fastest_calls_count(together, seconds, monkeypatch):
    """Ten times the milliseconds 5, 2, 7, 7, ...; the first call of all warms up."""
    ends, calls = iter([0, 5, 7, *range(14, 64, 7)]), []

    class Event:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(ends)

        def elapsed_time(self, other):
            return other.at - self.at

    cuda = SimpleNamespace(Event=Event, synchronize=lambda: None)
    monkeypatch.setattr(torch, "cuda", cuda)
    assert limits._seconds(lambda: calls.append(0), together=together) == pytest.approx(seconds)
    assert len(calls) == 1 + limits.REPEATS * together
