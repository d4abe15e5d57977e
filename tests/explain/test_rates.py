"""Learning rates that fall by a law, and updates that are clipped: named where a law predicts them, else as numbers."""

from dataclasses import replace

import numpy as np
import pytest

from parity.contract import SGD
from parity.oracle.schedule import rates
from parity.oracle.sgd import sgd_update
from tests.explain.steps import HONEST, explained, stepping
from tests.explain.test_side import STAIRS


@pytest.mark.parametrize(("lr", "decay"), [(1e-3, 1e-6), (1e-2, 0.01), (1e-2, 0.5)])
@pytest.mark.parametrize("offset", [0, 1])
def test_inverse_time_decay(lr, decay, offset, small):
    """Also one that nearly is the rate that is meant: it is no schedule in float32.

    A decay of 1e-6 and an exponential one are 1e-12 apart after a step, which is what an update is rounded to.
    """

    def decaying(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, lr=sgd.lr / (1 + decay * (step + offset))), step)

    (cause,) = explained(stepping(decaying), small, sgd=SGD(lr=lr)).causes
    assert cause.keys == (("inverse-time-decay",) if decay > 1e-6 else ("inverse-time-decay", "exponential-decay"))
    assert f"lr / (1 + {decay:.6g} {'(t + 1)' if offset else 't'})" in cause.sentence


def test_inverse_time_decay_beside_a_schedule(small):
    def decaying(p, g, b, sgd, step):
        lr = rates(sgd, step).lr / (1 + 0.1 * step)
        return sgd_update(p, g, b, SGD(lr=lr), step)

    (cause,) = explained(stepping(decaying), small, sgd=STAIRS).causes
    assert cause.key == "inverse-time-decay"


def test_exponential_decay_is_told_from_inverse_time(small):
    def decaying(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, lr=sgd.lr * 0.99**step), step)

    (cause,) = explained(stepping(decaying), small).causes
    assert (cause.key, cause.alike) == ("exponential-decay", ())
    assert "0.99^t" in cause.sentence


def test_two_steps_show_no_law_of_decay(small):
    """A constant is fitted to one of them, and nothing is left to predict."""

    def decaying(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, lr=sgd.lr / (1 + 0.1 * step)), step)

    (cause,) = explained(stepping(decaying), small, sizes=(4, 4)).causes
    assert cause.key == "other-lr"
    assert "updates in steps 0 to 1 by rates of 0.001, 0.000909091" in cause.sentence


def test_rates_that_follow_no_law_are_not_given_one(small):
    def erratic(p, g, b, sgd, step):
        return sgd_update(p, g, b, replace(sgd, lr=sgd.lr / (1 + 0.01 * step + 1e-6 * step**2)), step)

    (cause,) = explained(stepping(erratic), small).causes
    assert cause.key == "other-lr"


class ClipsUpdates:
    """The oracle whose updates, of all parameters together, are changed after it has made them."""

    def __init__(self, change):
        self.change = change

    def __getattr__(self, name):
        return getattr(HONEST, name)

    def observe(self, state, data, rows):
        after, seen = HONEST.observe(state, data, rows)
        updates = {name: seen.parameters[name] - p for name, p in seen.weights.items()}
        rate = rates(state.sgd, state.steps).lr
        moved = {name: seen.weights[name] + u for name, u in self.change(updates, rate).items()}
        return replace(after, parameters=moved), replace(seen, parameters={n: p.copy() for n, p in moved.items()})


def by_norm(updates, limit, epsilon=0.0):
    norm = np.sqrt(sum(np.sum(u * u) for u in updates.values()))
    return {name: u * min(1.0, limit / (norm + epsilon)) for name, u in updates.items()}


def by_value(updates, limit):
    return {name: np.clip(u, -limit, limit) for name, u in updates.items()}


@pytest.mark.parametrize(
    ("change", "sgd", "key", "text"),
    [
        (lambda u, _: by_norm(u, 5e-4), SGD(), "update-clipped", "learning rate, at a norm of 0.0005 of"),
        (lambda u, _: by_norm(u, 5e-4, 1e-6), SGD(), "update-clipped", "0.0005 of all parameters together, with"),
        (lambda u, lr: by_norm(u, 0.5 * lr), None, "update-clipped", "before the learning rate, at a norm of 0.5 of"),
        (lambda u, _: by_value(u, 1e-5), SGD(), "update-value-clipped", "momentum and learning rate, at 1e-05"),
        (lambda u, lr: by_value(u, 0.01 * lr), None, "update-value-clipped", "before the learning rate, at 0.01"),
    ],
)
def test_the_update_is_clipped(change, sgd, key, text, small):
    found = explained(ClipsUpdates(change), small, sgd=sgd or STAIRS)
    assert not found.unknown, found.line
    (cause,) = found.causes
    assert (cause.key, cause.place.stage, cause.alike) == (key, "update", ())
    assert text in cause.sentence


def test_one_step_that_is_cut_shows_no_limit(small):
    norms = [0.0]

    def once(updates, lr):
        norms.append(float(np.sqrt(sum(np.sum(u * u) for u in updates.values()))))
        return by_norm(updates, 0.9 * norms[-1]) if len(norms) == 4 else updates

    found = explained(ClipsUpdates(once), small)
    assert [cause.key for cause in found.causes] == ["other-lr"]
