import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.matching.assignment import assign

shapes = st.tuples(st.integers(1, 5), st.integers(0, 2)).map(lambda pair: (pair[0], pair[0] + pair[1]))
costs = hnp.arrays(np.float64, shapes, elements=st.integers(-3, 6) | st.floats(-10, 10))


@given(costs)
def test_no_other_assignment_is_cheaper(cost):
    rows, columns = cost.shape
    chosen = assign(cost)
    assert len(set(chosen)) == rows
    every = itertools.permutations(range(columns), rows)
    best = min(sum(cost[i, j] for i, j in enumerate(each)) for each in every)
    assert np.isclose(cost[np.arange(rows), chosen].sum(), best, atol=1e-9)
