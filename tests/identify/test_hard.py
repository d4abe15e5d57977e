"""Runs that once misled the search: each has one rule, drawn by hand, and the constants that it must give back."""

import numpy as np
import pytest

from parity.data import load_data
from parity.identify import identify
from parity.identify.lion_region import region_ends
from parity.identify.replay import Observed, replay, rounding_units
from parity.identify.rule import Rule
from parity.identify.run import recorded_run
from parity.identify.simulate import decaying_sum
from parity.identify.variables import Variables
from parity.measurements.optimizers import Optimizer, Truth
from parity.measurements.recorded import draw_run
from tests.identify.runs import problem, recorded

HARD = {
    "a bound without torch's epsilon, behind nesterov's step": (
        Truth(family="sgd", form="torch", nesterov=True, clip="exact", constants={"momentum": 0.67, "max_norm": 6.0}),
        ("buffer", "torch"),
    ),
    "a bound that every step exceeds, and dampening": (
        Truth(family="sgd", form="torch", clip="norm", constants={"momentum": 0.8, "dampening": 0.5, "max_norm": 1e-3}),
        ("dampened", True),
    ),
    "a bound on summed gradients": (
        Truth(
            family="sgd",
            form="torch",
            decay="coupled",
            clip="norm",
            every=2,
            summed=True,
            constants={"momentum": 0.7, "weight_decay": 0.01, "max_norm": 2.0},
        ),
        ("clip", "sum"),
    ),
    "an accumulator that outweighs the gradients": (
        Truth(family="adagrad", constants={"eps": 1e-6, "initial_accumulator": 100.0}),
        ("scaling", "adagrad"),
    ),
    "b2 so near to 1 that it hardly shows": (
        Truth(family="adam", constants={"b1": 0.9, "b2": 0.9999, "eps": 1e-6, "eps_root": 1e-6}),
        ("epsilon", "both"),
    ),
    "a centred denominator, clipped by value": (
        Truth(
            family="rmsprop",
            form="torch",
            centered=True,
            clip="value",
            decay="constant",
            constants={"alpha": 0.95, "momentum": 0.7, "eps": 1e-4, "clip_value": 0.2, "weight_decay": 1e-5},
        ),
        ("centered", True),
    ),
    "signs that climb": (
        Truth(family="lion", maximize=True, constants={"b1": 0.7, "b2": 0.93}),
        ("scaling", "lion"),
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_a_hard_run(name):
    truth, (part, value) = HARD[name]
    found = identify(*recorded(Optimizer(truth, lambda _: 1e-3).step, steps=40))
    right = [member for member in found.members if member.form[part] == value]
    assert right, found.rule
    for constant in set(truth.constants) - {"b1", "b2", "max_norm", "weight_decay", "initial_accumulator"}:
        assert right[0].constants[constant] == pytest.approx(truth[constant], rel=1e-5)


def test_a_step_without_a_gradient_in_a_run_that_is_always_clipped():
    def clipped(parameters, gradients):
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients.values()))
        return {name: p - 1e-3 * gradients[name] / max(norm, 1e-300) for name, p in parameters.items()}

    start, gradients = problem()
    states, steps = [start], []
    for t in range(12):
        step = {name: g * (t != 3) for name, g in gradients(states[-1]).items()}
        states.append(clipped(states[-1], step))
        steps.append(step)
    found = identify(states, steps)
    (member,) = found.members
    assert member.form["clip"] == "exact"
    assert member.constants["max_norm"] * member.constants["schedule.lr"] == pytest.approx(1e-3)
    assert member.errors["max_norm"] is None


@pytest.mark.parametrize("size", [0.02, 0.05])
def test_small_gradients_that_are_always_clipped_show_no_bound(size):
    """torch's epsilon is more than a millionth of their norms."""
    rng = np.random.default_rng(3)
    truth = Truth(family="sgd", decay="decoupled", clip="norm", constants={"weight_decay": 0.015, "max_norm": 0.06})
    optimizer = Optimizer(truth, lambda step: 1e-2 * 0.98**step)
    states, steps = [{"w": rng.normal(size=60)}], []
    for _ in range(16):
        steps.append({"w": size * rng.normal(size=60)})
        states.append(optimizer.step(states[-1], steps[-1]))
    for member in identify(states, steps).members:
        assert member.errors["max_norm"] is None
        ratio = member.constants["weight_decay"] / member.constants["max_norm"]
        assert ratio == pytest.approx(0.015 / 0.06)


def test_a_bound_at_the_smallest_gradient_but_for_rounding_is_known_only_up_to_a_factor():
    """Every step is clipped, at 7.03; the search ends 2e-5 above the smallest norm, 7.915, which is two errors."""
    run = draw_run(8079, "float32", load_data("embedded"))
    (member, *_), advice = (found := identify(run.parameters, run.gradients)).members, found.advice
    assert member.constants["max_norm"] > 1.1 * run.truth["max_norm"]
    assert member.errors["max_norm"] is None
    ratio = member.constants["weight_decay"] / member.constants["max_norm"]
    assert ratio == pytest.approx(run.truth["weight_decay"] / run.truth["max_norm"], rel=1e-5)
    assert any("every step is clipped" in line for line in advice)


def test_signs_of_the_gradient_itself_are_clipping_by_value():
    def step(parameters, gradients):
        return {name: p - 0.1 * np.clip(gradients[name], -1e-9, 1e-9) for name, p in parameters.items()}

    (member,) = identify(*recorded(step, steps=12)).members
    assert member.name == "SGD, clipping by value"
    assert member.errors["clip_value"] is None
    assert "this run does not show clip_value" in member.torch


def test_a_buffer_of_gradients_that_are_clipped_by_value_in_a_short_run():
    constants = {"momentum": 0.5, "dampening": 0.7, "clip_value": 0.05}
    step = Optimizer(Truth(family="sgd", form="torch", clip="value", constants=constants), cosine).step
    (member,) = identify(*recorded(step, steps=16)).members
    assert {name: member.constants[name] for name in constants} == pytest.approx(constants)


def cosine(step):
    return 1e-3 * (1 + np.cos(np.pi * step / 16))


def test_signs_under_a_denominator_that_grows_are_not_those_of_a_free_rate():
    truth = Truth(family="adagrad", clip="value", constants={"initial_accumulator": 0.2, "clip_value": 0.01})
    step = Optimizer(truth, lambda step: 2e-3 * 0.3 ** (step >= 8)).step
    found = identify(*recorded(step, dtype="float32", steps=20))
    assert {member.form["scaling"] for member in found.members} == {"adagrad"}
    assert found.members[0].schedule == "multi-step"


def test_few_signs_bound_no_rate():
    truth = Truth(family="lion", constants={"b1": 0.9, "b2": 0.99})
    (member,) = identify(*recorded(Optimizer(truth, lambda _: 0.01).step, steps=4)).members
    for name in ("b1", "b2"):
        error = member.errors[name]
        assert error is None or abs(member.constants[name] - truth[name]) < 5 * error


def test_parallel_gradients_are_said():
    start, _ = problem()
    step = {name: np.random.default_rng(5).normal(size=value.shape) for name, value in start.items()}
    states = [start]
    for _ in range(6):
        states.append({name: p - 0.1 * step[name] for name, p in states[-1].items()})
    assert any("all gradients are parallel" in line for line in identify(states, [step] * 6).advice)


def test_standard_errors_are_neither_too_small_nor_too_large():
    """Over runs in float32, an epsilon lies within four of its errors, and within one in about two of three."""
    truth = Truth(family="adam", constants={"b1": 0.8, "b2": 0.95, "eps": 1e-4})
    off = []
    for seed in range(12):
        optimizer = Optimizer(truth, lambda _: 1e-3)
        member = identify(*recorded(optimizer.step, dtype="float32", steps=30, seed=seed)).members[0]
        off.append(abs(member.constants["eps"] - 1e-4) / member.errors["eps"])
    assert max(off) < 4
    assert sum(value < 1 for value in off) >= 3
    assert sum(value < 0.1 for value in off) <= 6


def test_rounding_that_is_amplified_where_nearly_every_gradient_is_clipped():
    """v - a^2 cancels, and clipped gradients do not move with a nudge; what is not clipped tells the constants."""
    rng = np.random.default_rng(0)
    known = {"alpha": 0.832, "eps_root": 1.86e-5, "clip_value": 0.141}
    truth = Truth(family="rmsprop", centered=True, clip="value", constants=known)
    states, steps, optimizer = [{"w": 0.1 * rng.normal(size=200)}], [], Optimizer(truth, lambda _: 2e-3)
    signs = rng.choice([-1, 1], 200)
    for _ in range(50):
        steps.append({"w": signs * np.abs(rng.normal(1.5, 0.9, size=200))})
        states.append(optimizer.step(states[-1], steps[-1]))
    assert 0.9 < np.mean([np.abs(step["w"]) > known["clip_value"] for step in steps]) < 1
    (member, *_) = identify(states, steps).members
    assert member.form["centered"]
    for name, value in known.items():
        assert member.constants[name] == pytest.approx(value, rel=1e-9)


def test_a_bound_that_one_step_alone_does_not_reach():
    """Without its clipping the rule drives Adam's rates out of their range, from where nothing leads back."""
    rng = np.random.default_rng(4)
    known = {"b1": 0.702, "b2": 0.960, "eps_root": 8e-6, "max_norm": 0.5}
    optimizer = Optimizer(Truth(family="adam", clip="exact", maximize=True, constants=known), lambda _: 0.015)
    states, steps = [{"w": 0.05 * rng.normal(size=200)}], []
    for t in range(40):
        steps.append({"w": rng.normal(size=200) * (0.47 if t == 0 else 3.0 * 1.35**t) / np.sqrt(200)})
        states.append(optimizer.step(states[-1], steps[-1]))
    norms = [np.linalg.norm(step["w"]) for step in steps]
    assert sum(norm < known["max_norm"] for norm in norms) == 1
    (member, *_) = identify(states, steps).members
    for name, value in known.items():
        assert member.constants[name] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("number", [10020, 10388])
def test_a_bound_that_every_step_exceeds_where_larger_ones_leave_less_at_first(number, real):
    """Of the points that the search sets out from, those that leave least lead into valleys between two norms."""
    run = draw_run(number, "float64", real)
    known = run.truth.constants
    assert min(np.sqrt(sum(np.sum(g**2) for g in step.values())) for step in run.gradients) > known["max_norm"]
    (member, *_) = identify(run.parameters, run.gradients).members
    assert (member.form["scaling"], member.form["clip"]) == ("adagrad", run.truth.clip)
    # The bound is known up to a factor, and with it the accumulator.
    floor = known["initial_accumulator"] + known.get("eps_root", 0.0)
    found = member.constants["initial_accumulator"] / member.constants["max_norm"] ** 2
    assert found == pytest.approx(floor / known["max_norm"] ** 2, rel=1e-6)


def test_a_region_of_lion_that_no_point_of_the_grid_leads_into():
    run = draw_run(7098, "float64", load_data("embedded"))
    (member,) = identify(run.parameters, run.gradients).members
    assert member.form["scaling"] == "lion"
    assert_in_region(member, run.truth)


@pytest.mark.parametrize("number", [8038, 8085, 8162, 8409])
def test_a_region_of_lion_that_is_long_and_bent(number):
    """Its extent along straight lines from the middle, which these runs once had for an error, left the truth out."""
    run = draw_run(number, "float64", load_data("embedded"))
    for member in identify(run.parameters, run.gradients).members:
        assert_in_region(member, run.truth)


def assert_in_region(member, truth):
    for name in ("b1", "b2"):
        assert abs(member.constants[name] - truth[name]) <= member.errors[name]


def test_the_ends_of_lions_region_are_those_of_a_fine_grid():
    rng = np.random.default_rng(2)
    g = rng.normal(size=(12, 30))
    m, signs = np.zeros(30), []
    for row in g:
        signs.append(np.sign(0.8 * m + 0.2 * row))
        m = 0.9 * m + 0.1 * row

    def right(b1, b2):
        m = np.zeros(30)
        for sign, row in zip(signs, g, strict=True):
            if np.any(sign * (b1 * m + (1 - b1) * row) < -1e-5 * (b1 * np.abs(m) + (1 - b1) * np.abs(row))):
                return False
            m = b2 * m + (1 - b2) * row
        return True

    ends, middle = region_ends(0.8, 0.9, np.array(signs), g)
    assert right(*middle)
    steps = (ends[:, 1] - ends[:, 0]) / 60
    for b2 in np.arange(ends[1, 0] - 5 * steps[1], ends[1, 1] + 5 * steps[1], steps[1]):
        for b1 in np.arange(ends[0, 0] - 5 * steps[0], min(ends[0, 1] + 5 * steps[0], 1.0), steps[0]):
            if right(b1, b2):  # the region around (0.8, 0.9) is all there is here
                assert ends[0, 0] - 1e-9 <= b1 <= ends[0, 1] + 1e-3 * (ends[0, 1] - ends[0, 0])
                assert ends[1, 0] - 1e-9 <= b2 <= ends[1, 1] + 1e-9
    for b1, b2 in ((0.8, 0.9), tuple(middle)):
        assert ends[0, 0] <= b1 <= ends[0, 1]
        assert ends[1, 0] <= b2 <= ends[1, 1]


def test_the_rates_error_holds_what_an_epsilon_that_is_hardly_known_makes_of_it():
    """Gradients far below epsilon: the rate is known only with it, a thousand times worse than each step says."""
    rng = np.random.default_rng(3)
    states, steps = [{"w": rng.normal(size=60)}], []
    optimizer = Optimizer(Truth(family="adam", constants={"b1": 0.9, "b2": 0.999, "eps": 1e-3}), lambda _: 0.01)
    for _ in range(12):
        steps.append({"w": 1e-4 * rng.normal(size=60)})
        states.append(optimizer.step(states[-1], steps[-1]))
    (member, *_) = identify(states, steps).members
    assert abs(member.constants["schedule.lr"] - 0.01) < 4 * member.errors["schedule.lr"]
    assert member.errors["schedule.lr"] < 1e-12


RULES = (
    Rule(buffer="keras", nesterov=True, decay="decoupled", clip="norm"),
    Rule(scaling="adam", epsilon="both", decay="coupled"),
    Rule(scaling="rms", buffer="keras", centered=True, epsilon="outside", clip="value"),
    Rule(scaling="adagrad", epsilon="inside", initial=True, decay="constant"),
    Rule(buffer="torch", dampened=True, clip="exact"),
)
CONSTANTS = {"momentum": 0.8, "dampening": 0.3, "b1": 0.85, "b2": 0.97, "alpha": 0.93, "eps": 1e-3, "eps_root": 1e-4}
CONSTANTS |= {"initial_accumulator": 0.2, "max_norm": 5.0, "clip_value": 0.4, "weight_decay": np.array([0.01, 0.02])}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("skipping", [False, True])
def test_derivatives_by_complex_steps_are_those_of_differences(rule, skipping):
    states, gradients = recorded(Optimizer(Truth(family="sgd"), lambda _: 0.05).step, steps=12)
    if skipping:
        gradients[4] = {**gradients[4], "bias": None}
        states[5] = {**states[5], "bias": states[4]["bias"]}
        for state in states[6:]:
            state["bias"] = state["bias"] - (states[6]["bias"] - states[5]["bias"])
    run = recorded_run(states, [{k: v for k, v in step.items() if v is not None} for step in gradients])
    observed = Observed(run, rounding_units(run))
    constants = {name: CONSTANTS[name] for name in rule.constants}
    variables = Variables.of(rule, run, constants)
    x = variables.pack(constants)

    def residual(x):
        return replay(rule, {**constants, **variables.unpack(x)}, observed).residual

    for unit in np.eye(len(x)):
        exact = residual(x + 1e-30j * unit).imag / 1e-30
        step = 1e-7
        nearly = (residual(x + step * unit) - residual(x - step * unit)) / (2 * step)
        # A central difference is off by rounding over its step, and by its square times the third derivative.
        rounding = 8 * np.finfo(float).eps / step * np.abs(residual(x)).max()
        allowed = 1e-4 * np.abs(exact).max() + rounding
        assert np.abs(exact - nearly).max() <= allowed


def test_a_decaying_sum_in_blocks_is_its_recursion():
    x = np.random.default_rng(0).normal(size=(200, 3))
    y, expected = np.zeros(3), []
    for row in x:
        y = 0.97 * y + row
        expected.append(y)
    np.testing.assert_allclose(decaying_sum(0.97, x), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
