"""Own programs: the examples' mistakes are named, and small pairs of traces."""

from dataclasses import replace

import numpy as np
import pytest

from parity.checking import check
from parity.compare import Rung, Stage
from parity.contract import StepTrace
from parity.explain import own_rules
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


def trained(update, *, steps=6, scale=1.0, seed=1):
    """Steps of an optimizer on gradients that do not depend on it: `update` has (t, p, g, memory), and returns u."""
    rng, memory = np.random.default_rng(seed), {}
    p, traces = {"w": W, "v": G[0]}, []
    for t in range(steps):
        g = {name: scale * rng.normal(size=value.shape) for name, value in p.items()}
        after = {name: value + update(t, value, g[name], memory.setdefault(name, {})) for name, value in p.items()}
        kept = {name: memory[name]["b"] for name in p if "b" in memory[name]}
        traces.append(step(weights=p, gradients=g, momentum=kept, parameters=after, loss={"loss": np.array(0.7)}))
        p = after
    return traces


def sgd(*, lr=0.05, mu=0.9, wd=1e-3, limit=np.inf, late=None):
    def update(t, p, g, memory):
        g = g + wd * p
        memory["b"] = g if t == 0 else mu * memory["b"] + g
        rate = lr / 2 if late is not None and t >= late else lr
        return np.clip(-rate * memory["b"], -limit, limit)

    return update


def adam(*, lr=1e-2, wd=0.0, power=0.5):
    """The buffers are not recorded."""

    def update(t, p, g, memory):
        memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
        memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g * g
        m, v = memory["m"] / (1 - 0.9 ** (t + 1)), memory["v"] / (1 - 0.999 ** (t + 1))
        return -lr * (m / (v**power + 1e-8) + wd * p)

    return update


def compared(a, b, stage="loss", tensor="loss", at=0):
    rung = Rung(step=at, place=Stage(stage=stage, tensor=tensor), difference=1.0, allowed=1e-13)
    return explain_programs(("a", "b"), rung, (a, b))


def test_two_faults_of_an_optimizer_are_both_named():
    """A decay that is left out, and an update that is cut: the second is no silence."""
    found = compared(trained(sgd()), trained(sgd(wd=0.0, limit=1e-3)), "momentum", "w")
    assert [cause.key for cause in found] == ["weight-decay-lost", "update-value-clipped"]
    assert found[0].sentence == "has no weight decay before the momentum, where 0.001 is meant"
    assert "at 0.001" in found[1].sentence


def test_the_optimizer_is_judged_by_its_own_gradients():
    """Gradients four times as large are the first fault's; a momentum of 0.99 shows in the second step."""
    a, b = trained(sgd()), trained(sgd(mu=0.99), scale=4.0)
    *_, cause = compared(a, b)
    assert (cause.key, cause.step, str(cause.place)) == ("other-momentum", 1, "momentum, w")
    assert cause.before < 0.1
    assert compared(a, trained(sgd(), scale=4.0))[1:] == []


def test_a_learning_rate_that_changes_is_named_as_one():
    (cause,) = compared(trained(sgd()), trained(sgd(late=3)), "update", "w", 3)
    assert (cause.key, cause.step) == ("other-lr", 3)
    assert "a learning rate of 0.025 from step 3 on, 0.5 times the 0.05 that is meant" in cause.sentence
    (cause,) = compared(trained(adam()), trained(adam(lr=2e-2)), "update", "w")
    assert (cause.keys, cause.step) == (("other-lr", "update-twice"), 0)


def test_constants_of_other_rules_are_compared_where_they_first_show():
    a, b = trained(adam(wd=0.01)), trained(adam(wd=0.1))
    *_, cause = compared(a, b)
    assert (cause.key, cause.step, cause.place.stage) == ("other-weight_decay", 0, "update")
    assert 1e-3 < cause.before < 1  # 0.09 of a parameter, beside updates of about lr


@pytest.mark.parametrize("turned", [False, True])
def test_an_optimizer_that_no_rule_explains_is_unknown(monkeypatch, turned):
    """Where one side is identified and the other is not, that is said, and where they part."""
    a, b = trained(sgd()), trained(adam(power=0.4))
    known = own_rules.identified
    # A search that ends without a rule takes long: its answer is given here.
    monkeypatch.setattr(own_rules, "identified", lambda traces: None if traces is b else known(traces))
    *_, unknown = compared(b, a) if turned else compared(a, b)
    assert str(unknown).startswith(f"unknown: {'a' if turned else 'b'} at step 0, ")
    assert unknown.place.stage in ("momentum", "update")
    assert unknown.difference > 0.1


def cross_entropy(z, targets):
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -(targets * log_p).sum(axis=1), np.exp(log_p) * targets.sum(axis=1, keepdims=True) - targets


def classifying(smoothing=0.0, steps=3):
    rng = np.random.default_rng(5)
    traces = []
    for _ in range(steps):
        z, y = rng.normal(size=(4, 3)), rng.integers(0, 3, size=4)
        losses, by_logits = cross_entropy(z, (1 - smoothing) * np.eye(3)[y] + smoothing / 3)
        batch, gradients = {"0": np.ones((4, 2)), "1": y}, {"w": G, "c": by_logits.mean(axis=0)}
        traces.append(
            step(batch=batch, logits={"logits": z}, loss={"loss": np.array(losses.mean())}, gradients=gradients)
        )
    return traces


@pytest.mark.parametrize("steps", [1, 3])
def test_a_loss_of_classes_is_named_in_any_program(steps):
    (cause,) = compared(classifying(steps=steps), classifying(0.1, steps=steps))
    assert (cause.key, cause.sentence) == ("label-smoothing", "smooths the labels by 0.1")


@pytest.mark.parametrize("steps", [1, 3])
def test_a_loss_that_lacks_what_the_first_program_has(steps):
    (cause,) = compared(classifying(0.1, steps=steps), classifying(steps=steps))
    assert cause.key == "other-loss"
    assert cause.sentence == "takes the mean cross-entropy alone, where a smooths the labels by 0.1"


def test_a_loss_whose_gradient_is_another_is_unknown():
    reported = [
        replace(trace, gradients=honest.gradients)
        for trace, honest in zip(classifying(0.1), classifying(), strict=True)
    ]
    (unknown,) = compared(classifying(), reported)
    assert str(unknown).startswith("unknown: b at step 0, loss")
