"""Losses beside their gradients, by central differences."""

import numpy as np
import pytest

from parity.contract import StepTrace
from parity.explain.losses import HONEST, loss_guesses
from parity.oracle import layers

RNG = np.random.default_rng(0)
Z, Y = RNG.normal(size=(4, 10)), np.array([3, 0, 9, 5])


def step(loss):
    weights = {"w.weight": RNG.normal(size=(3, 2)), "w.bias": RNG.normal(size=3)}
    return StepTrace(
        batch={"labels": Y},
        weights=weights,
        activations={},
        logits={"logits": Z},
        loss={"loss": np.array(loss)},
        gradients={},
        momentum={},
        parameters=weights,
    )


GUESSES = list(loss_guesses([step(1.1 * HONEST.value(Z, Y))], [0], 5))


@pytest.mark.parametrize("guess", GUESSES, ids=lambda guess: f"{guess.key}: {guess.sentence[:40]}")
def test_the_gradient_is_that_of_the_value(guess):
    h, loss = 1e-6, guess.loss
    for _ in range(3):
        direction = RNG.normal(size=Z.shape)
        numeric = (loss.value(Z + h * direction, Y) - loss.value(Z - h * direction, Y)) / (2 * h)
        # A central difference errs by eps / h of the value, and by h^2 of the third derivative.
        assert abs(numeric - np.vdot(loss.gradient(Z, Y), direction)) <= 1e-8 * (1 + abs(loss.value(Z, Y)))


def test_the_honest_loss_is_the_oracles():
    assert HONEST.value(Z, Y) == pytest.approx(float(layers.cross_entropy(Z, Y)), rel=1e-15)
    np.testing.assert_allclose(HONEST.gradient(Z, Y), layers.cross_entropy_backward(Z, Y), rtol=1e-14)


def test_a_label_that_is_no_class_has_no_target():
    only = HONEST.value(Z[1:], Y[1:]) * 3 / 4
    assert HONEST.value(Z, np.array([-1, *Y[1:]])) == pytest.approx(only, rel=1e-15)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-6, 1e-3])
def test_the_epsilon_is_fitted(epsilon):
    p = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    found = float(-np.mean(np.log(p[np.arange(4), Y] + epsilon)))
    guess = next(guess for guess in loss_guesses([step(found)], [0], 4) if guess.key == "log-epsilon")
    assert f"{epsilon:.3g}" in guess.sentence
    assert guess.loss.value(Z, Y) == pytest.approx(found, rel=1e-14)
