"""Which states are recorded, which are kept in full, and where plans are cut for that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.contract import InputError
from parity.trace.schedule import Schedule


def recorded(schedule):
    return [count for count in range(1, schedule.limit + 1) if schedule.is_recorded(count)]


def test_by_default_every_state_is_recorded_and_18_of_the_tutorials_are_kept():
    schedule = Schedule(limit=37_500)
    assert len(recorded(schedule)) == 37_500
    full = [count for count in recorded(schedule) if schedule.is_full(count)]
    assert full == [1, 2, 3, 4, *(2**power for power in range(3, 16)), 37_500]


def test_a_wider_distance_keeps_the_first_recorded_state_at_or_after_each_power_of_two():
    schedule = Schedule(limit=103, every=10)
    assert recorded(schedule) == [1, 2, 3, 4, *range(10, 101, 10), 103]
    assert [count for count in recorded(schedule) if schedule.is_full(count)] == [1, 2, 3, 4, 10, 20, 40, 70, 103]


@given(st.integers(1, 60), st.integers(1, 90), st.integers(0, 30), st.integers(1, 60))
def test_pieces_end_where_states_are_recorded_and_hold_every_step_once(length, limit, done, every):
    done = min(done, limit - 1)
    schedule = Schedule(limit=limit, every=every)
    plan = np.arange(2 * length, dtype=np.int32).reshape(length, 2)
    pieces = list(schedule.pieces(plan, done))
    np.testing.assert_array_equal(np.concatenate(pieces), plan[: limit - done])
    ends = done + np.cumsum([len(piece) for piece in pieces])
    inside = [count for count in recorded(schedule) if done < count <= ends[-1]]
    assert set(inside) <= set(ends.tolist()) <= {*inside, done + length}


def test_a_distance_below_1_is_refused():
    with pytest.raises(InputError, match="every 0: it is less than 1; give 1 or more"):
        Schedule(limit=10, every=0)
