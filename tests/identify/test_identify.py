"""Classes that a run cannot tell apart, masks, frozen tensors, accumulation; what is unknown; what cannot be used."""

import io
import zipfile

import numpy as np
import pytest

from parity.contract import InputError
from parity.identify import identify, load_run, save_run
from parity.identify.advice import advice
from parity.identify.run import recorded_run
from parity.measurements.optimizers import Optimizer, Truth
from parity.progress import watching
from parity.render.identify import identification_lines
from tests.identify.runs import recorded


def run_of(truth, schedule=lambda _: 0.02, **keywords):
    return recorded(Optimizer(truth, schedule).step, **keywords)


def sgd(form="torch", **keywords):
    constants = {name: keywords.pop(name) for name in ("momentum", "weight_decay", "dampening") if name in keywords}
    return Truth(family="sgd", form=form, constants={"momentum": 0.9, **constants}, **keywords)


def names(found):
    return {member.form["buffer"] for member in found.members}


def test_a_constant_rate_cannot_tell_torch_from_keras_and_a_change_of_it_can():
    found = identify(*run_of(sgd()))
    assert names(found) == {"torch", "keras"}
    assert any("change lr during the run" in line for line in found.advice)
    assert any("averaged" in line for line in found.notes)

    def halved(update):
        return 0.02 * 0.5 ** (update // 8)

    assert names(identify(*run_of(sgd(), halved))) == {"torch"}
    assert names(identify(*run_of(sgd("keras"), halved))) == {"keras"}


def test_whoever_listens_is_told_how_many_rules_were_tried():
    told = []
    with watching(told.append):
        identify(*run_of(sgd(), steps=8))
    *going_on, last = told
    assert {each.what for each in told} == {"rules tried"}
    assert going_on
    assert all(0 < each.done < each.total for each in going_on)
    assert last.done == last.total


def test_a_mask_and_a_frozen_tensor():
    truth = sgd(decay="coupled", weight_decay=0.05, undecayed=("bias",))
    (torch_form, *_) = identify(*run_of(truth)).members
    assert torch_form.decays == pytest.approx({"weight": 0.05})
    found = identify(*run_of(sgd(frozen=("bias",))))
    assert found.frozen == ("bias",)
    assert found.known


def test_without_momentum_coupled_and_decoupled_decay_are_one_class():
    truth = Truth(family="sgd", constants={"weight_decay": 0.1}, decay="coupled")
    found = identify(*run_of(truth, lambda update: 0.02 * 0.9**update))
    assert {member.form["decay"] for member in found.members} == {"coupled", "decoupled"}


def test_accumulated_gradients():
    found = identify(*run_of(sgd(every=3), steps=30))
    assert found.every == 3
    assert len(found.members[0].lr) == 10
    assert found.members[0].constants["schedule.lr"] == pytest.approx(0.02)


def test_a_rule_that_is_none_is_unknown_and_not_guessed():
    rng = np.random.default_rng(0)

    def noisy(parameters, gradients):
        return {
            name: p - 0.02 * gradients[name] * (1 + 1e-3 * rng.normal(size=p.shape)) for name, p in parameters.items()
        }

    found = identify(*recorded(noisy, steps=10))
    assert not found.known
    assert found.rule == "unknown"
    assert found.nearest.residual > 1e6
    assert 1e-8 < found.nearest.residual_share < 1e-1
    assert set(found.tried) == {"SGD", "Adam", "RMSprop", "Adagrad"}
    # Rules with more constants leave less of the noise, and are no nearer to what was done.
    assert next(iter(found.tried)) == "SGD"
    assert found.nearest.name.startswith("SGD")
    assert found.nearest.form["buffer"] == "none"
    lines = " ".join(" ".join(identification_lines(found)).split())
    assert "units of rounding, " in lines
    assert "tried: " in lines
    assert "Lion (the updates are no signs)" in lines


def test_a_float32_run_that_was_kept_in_float64_is_told_of_its_dtype():
    states, gradients = run_of(Truth(family="sgd", constants={}), steps=4, dtype="float32")
    kept = [
        [{name: value.astype("float64") for name, value in each.items()} for each in rows]
        for rows in (states, gradients)
    ]
    run = recorded_run(*kept)
    assert any("float32 numbers: if the run" in line for line in advice([], run))
    moved = recorded_run([{name: value * 1.1 for name, value in state.items()} for state in kept[0]], kept[1])
    assert any("all gradients are float32 numbers" in line for line in advice([], moved))


def test_a_tensor_without_a_gradient_keeps_its_buffer():
    """torch skips it: the buffer of the next step with one is not that of zeros in between."""
    import torch

    from tests.identify.runs import problem

    start, gradients = problem()
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    optimizer = torch.optim.SGD(params.values(), lr=0.02, momentum=0.9, dampening=0.4)
    states, steps = [start], []
    for t in range(20):
        step = gradients(states[-1])
        if t in (0, 1, 7):
            step["bias"] = None
        for name, p in params.items():
            p.grad = None if step[name] is None else torch.tensor(step[name])
        optimizer.step()
        states.append({name: p.detach().numpy().copy() for name, p in params.items()})
        steps.append(step)
    (member,) = identify(states, steps).members
    assert member.name == "SGD with momentum, dampening"
    assert member.constants["dampening"] == pytest.approx(0.4, rel=1e-9)


def broken(kind):  # noqa: PLR0912  a case for each fault
    """A run with one fault, and further arguments."""
    states, gradients = run_of(sgd(), steps=8)
    arguments = {}
    if kind == "short":
        states, gradients = states[:4], gradients[:3]
    elif kind == "uneven":
        gradients = gradients[:-1]
    elif kind == "nan":
        gradients[3]["weight"] = np.full_like(gradients[3]["weight"], np.nan)
    elif kind == "zero":
        gradients = [{name: 0 * value for name, value in step.items()} for step in gradients]
    elif kind == "none":
        gradients = [{} for _ in gradients]
    elif kind == "missing":
        gradients[2].pop("bias")
    elif kind == "unknown":
        gradients[2]["scale"] = np.ones(3)
    elif kind == "shape":
        states[5]["bias"] = np.ones(4)
    elif kind == "steps":
        arguments = {"steps": [0, 1, 2, 4, 5, 6, 7, 8]}
    elif kind == "late":
        arguments = {"steps": range(5, 13)}
    elif kind == "constant":
        states = [states[0]] * 9
    elif kind == "dtype":
        arguments = {"dtype": "float16"}
    elif kind == "named steps":
        arguments = {"steps": list("abcdefgh")}
    elif kind == "steps of NaN":
        arguments = {"steps": [0.0, 1.0, np.nan, 3.0, 4.0, 5.0, 6.0, 7.0]}
    elif kind == "halves":
        arguments = {"steps": np.arange(8) + 0.5}
    elif kind == "huge parameters":
        states[4]["weight"] = states[4]["weight"] * 1e300
    elif kind == "huge gradients":
        gradients[4]["weight"] = gradients[4]["weight"] * 1e300
    elif kind == "empty":
        states = [{"weight": np.ones((0, 3))} for _ in states]
        gradients = [{"weight": np.ones((0, 3))} for _ in gradients]
    elif kind in ("float16", "float32"):
        gradients = [{name: value.astype(kind) for name, value in step.items()} for step in gradients]
    return states, gradients, arguments


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("short", "gradients of 3 steps: too few to identify anything; record 4 steps at least"),
        ("uneven", "gradients of 7 steps: there are 9 states of the parameters, 8 are needed"),
        ("nan", "gradients weight: NaN or infinity of step 3"),
        ("zero", "gradients all zero"),
        ("none", "no tensor has a gradient in any step"),
        ("missing", "gradients bias: missing at step 2, where the tensor moves"),
        ("unknown", "gradients scale: of step 2: none of the parameters"),
        ("shape", "parameters bias: shape (4,) at step 5, (3,) before the first step"),
        ("steps", "steps 2, 4: they are not consecutive; record every step"),
        ("late", "start the recording at the first step"),
        ("constant", "no step moves any tensor"),
        ("dtype", "dtype float16: unknown; give float32 or float64"),
        ("named steps", "steps a: not the number of a step; number the steps 0, 1, 2, ..."),
        ("steps of NaN", "steps nan: not the number of a step"),
        ("halves", "steps 0.5: not the number of a step"),
        ("huge parameters", "e+300 before step 4: its square would overflow"),
        ("huge gradients", "e+300 of step 4: its square would overflow"),
        ("empty", "parameters without elements: there is nothing that a step could move"),
        ("float16", "gradients weight: float16 at step 0 is less precise than the parameters, which are float64"),
        ("float32", "record the gradients in float64 too"),
    ],
)
def test_bad_input_is_one_line(kind, line):
    states, gradients, arguments = broken(kind)
    with pytest.raises(InputError) as error:
        identify(states, gradients, **arguments)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_holds_what_was_recorded(tmp_path):
    states, gradients = run_of(sgd(), steps=8)
    gradients[3] = {**gradients[3], "bias": None}
    path = tmp_path / "run.npz"
    save_run(path, states, gradients)
    parameters, steps, numbers = load_run(path)
    assert numbers is None
    assert "bias" not in steps[3]
    for before, after in zip(states, parameters, strict=True):
        np.testing.assert_array_equal(before["weight"], after["weight"])


def test_float32_gradients_of_a_float32_run_that_was_kept_in_float64():
    states, gradients = run_of(sgd(), steps=8, dtype="float32")
    kept = [{name: value.astype("float64") for name, value in state.items()} for state in states]
    assert identify(kept, gradients, dtype="float32").known


def stored(kind, path):
    """A file with one fault."""
    arrays = {"parameters/w": np.ones((5, 3)), "gradients/w": np.ones((4, 3))}
    if kind == "objects":
        arrays["parameters/w"] = np.array([None] * 5, dtype=object)
    elif kind == "numbers":
        arrays = {"parameters/w": np.float64(1), "gradients/w": np.float64(1)}
    elif kind == "names":
        arrays["steps"] = np.array(list("abcd"))
    elif kind == "nan":
        arrays["steps"] = np.array([0, 1, np.nan, 3])
    elif kind == "halves":
        arrays["steps"] = np.array([0.5, 1.5, 2.5, 3.5])
    np.savez(path, **arrays)
    if kind == "twice":
        buffer = io.BytesIO()
        np.save(buffer, np.zeros((5, 3)))
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("parameters/w.npy", buffer.getvalue())


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("objects", "it holds an array of Python objects; store numbers"),
        ("numbers", "parameters/w is a single number, with no row for each step"),
        ("names", "steps a: not the number of a step"),
        ("nan", "steps nan: not the number of a step"),
        ("halves", "steps 0.5: not the number of a step"),
        ("twice", "it holds parameters/w more than once; store each array once"),
    ],
)
def test_a_file_that_holds_something_else(kind, line, tmp_path):
    path = tmp_path / "run.npz"
    stored(kind, path)
    with pytest.raises(InputError) as error:
        load_run(path)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_a_file_that_is_none(content, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not an .npz file"):
        load_run(path)
    with pytest.raises(InputError, match="No such file"):
        load_run(tmp_path / "none.npz")
    np.savez(path, weights=np.ones(3))
    with pytest.raises(InputError, match="holds no parameters"):
        load_run(path)
