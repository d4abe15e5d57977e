"""Steps of an oracle in which one operation is another, as evidence for the explainer."""

from dataclasses import replace

import numpy as np

from parity.contract import SGD, StepLR, initial_weights
from parity.explain import Evidence, Explanation, explain_side
from parity.lane import Lane
from parity.oracle import Operations, Oracle, impl
from parity.oracle.layers import normalise
from parity.oracle.sgd import sgd_update
from parity.problem import cnn_problem
from parity.settings import Settings, Side

SGDS = (
    SGD(),
    SGD(momentum=0.0, weight_decay=0.1),
    SGD(dampening=0.3, weight_decay=0.01, maximize=True),
    SGD(nesterov=True, weight_decay=0.01, decay_biases=False),
    SGD(schedule=StepLR(step_size=1, gamma=0.5, every=3), clip_norm=0.5),
    SGD(clip_value=0.01),
)
"""What an honest side may be asked for."""

SIZES = (4, 4, 2, 4, 4, 2)  # an epoch ends after the third


def oracle(**operations):
    return Oracle(operations=replace(Operations(), **operations))


def stepping(change):
    """The oracle with `change(p, g, b, sgd, step)` for its update."""
    return oracle(sgd_update=change)


def sgd_with(**changes):
    """SGD with other hyper-parameters than it was asked for; a function gives one that hangs on the parameter."""

    def update(p, g, b, sgd, step):
        own = {name: value(p) if callable(value) else value for name, value in changes.items()}
        return sgd_update(p, g, b, replace(sgd, **own), step)

    return stepping(update)


def evidence(implementation, dataset, *, sgd=None, weights=None, sizes=SIZES):
    sgd, weights = sgd or SGD(), weights or initial_weights(0)
    rows = np.split(np.arange(sum(sizes), dtype=np.int32), np.cumsum(sizes)[:-1])
    problem = cnn_problem(dataset, weights)
    lane = Lane(side=Side(name="b", implementation=implementation))
    state = lane.start(problem, Settings(sgd=sgd, dtype="float64", device="cpu"), "cpu")
    traces = []
    for batch in rows:
        state, trace = lane.observe(state, batch)
        traces.append(trace)
    return Evidence(
        side="b",
        traces=tuple(traces),
        rows=tuple(rows),
        images=normalise(dataset.train_images),
        labels=dataset.train_labels,
        weights=weights,
        momentum={},
        sgd=sgd,
        batch_size=4,
    )


def explained(implementation, dataset, **keywords):
    return Explanation.of(explain_side(evidence(implementation, dataset, **keywords)))


HONEST = impl
