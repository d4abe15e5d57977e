"""Own programs: the examples' mistakes are named, and small pairs of traces."""

from dataclasses import replace

import numpy as np
import pytest

from parity.checking import check
from parity.compare import Rung, Stage
from parity.contract import StepTrace
from parity.explain.programs import explain_programs
from parity.prepare import prepare
from parity.run import resolve_sides
from parity.settings import Settings


@pytest.mark.parametrize(
    ("pair", "key", "text"),
    [
        (
            ("examples.mlp.torch_mlp", "examples.mlp.jax_mlp:wrong"),
            "other-weight_decay",
            "weight_decay 0.0001), where examples.mlp.torch_mlp updates by AdamW",
        ),
        (
            ("examples.cnn.torch_cnn", "examples.cnn.jax_cnn:wrong"),
            "statistics-momentum",
            "moves running statistics 9 times as far",
        ),
        (
            ("examples.transformer.torch_transformer", "examples.transformer.jax_transformer:wrong"),
            "other-activation",
            "has a GELU (tanh) where examples.transformer.torch_transformer has a GELU (gelu)",
        ),
    ],
)
def test_the_examples_mistakes_are_named(pair, key, text):
    prepared = prepare(*resolve_sides(pair), settings=Settings())
    (cause,) = check(prepared.sides, prepared.problem, Settings(device="cpu")).explanation.causes
    assert (cause.key, cause.side) == (key, pair[1])
    assert text in cause.sentence


RNG = np.random.default_rng(0)
W, G = RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5))


def step(**changes):
    stages = {
        "batch": {"0": np.ones((4, 2))},
        "weights": {"w": W},
        "activations": {},
        "logits": {"logits": RNG.normal(size=(4, 3))},
        "loss": {"loss": np.array(0.7)},
        "gradients": {"w": G, "v": G[0]},
        "momentum": {},
        "parameters": {"w": W - 0.1 * G},
    }
    return StepTrace(**{**stages, **changes})


def explained(a, b, stage, tensor, difference=1.0):
    rung = Rung(step=0, place=Stage(stage=stage, tensor=tensor), difference=difference, allowed=1e-13)
    (found,) = explain_programs(("a", "b"), rung, ((a,), (b,)))
    return found


HONEST = step()


@pytest.mark.parametrize(
    ("changes", "stage", "tensor", "key", "text"),
    [
        ({"gradients": {"w": 4 * G, "v": 4 * G[0]}}, "gradients", "w", "scaled", "gradients 4 times those of a"),
        ({"gradients": {"w": G + 0.01 * W, "v": G[0]}}, "gradients", "w", "decay", "0.01 times the parameter added"),
        ({"weights": {"w": W.reshape(5, 6).T}}, "weights", "w", "relaid", "reshaped to (in,out)"),
        ({"weights": {"w": W.astype(np.float32).astype(np.float64)}}, "weights", "w", "rounded", "float32"),
        (
            {"loss": {"loss": np.array(2.8)}, "gradients": {"w": 4 * G, "v": 4 * G[0]}},
            "loss",
            "loss",
            "loss-scaled",
            "4 times those of a (the batch's size: a sum, not a mean)",
        ),
    ],
)
def test_one_tensor_from_the_others(changes, stage, tensor, key, text):
    found = explained(HONEST, replace(HONEST, **changes), stage, tensor)
    assert (found.key, found.side) == (key, "b")
    assert text in found.sentence


def test_what_does_not_follow_is_unknown():
    one = {"gradients": {"w": 4 * G, "v": G[0]}}  # one tensor alone is scaled: no factor of all gradients
    found = explained(HONEST, replace(HONEST, **one), "gradients", "w")
    assert str(found).startswith("unknown: b at step 0, gradients, w")
    loss = {"loss": {"loss": np.array(2.8)}}  # any number is a factor of another; the gradients do not follow it
    assert str(explained(HONEST, replace(HONEST, **loss), "loss", "loss")).startswith("unknown: b at step 0, loss")
    other = {"logits": {"logits": np.ones((4, 2))}}
    assert str(explained(HONEST, replace(HONEST, **other), "logits", "logits")).startswith("unknown")
